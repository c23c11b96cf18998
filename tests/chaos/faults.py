"""The faults, each as what is done and, where it lasts, how long and how it ends."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.chaos.damage import Damage
from tests.chaos.truth import ROLE

AWAY_SECONDS = 60.0
"""How long NATS stays away."""

REDIS_AWAY_SECONDS = 20.0
"""How long Redis stays away."""

FROZEN_SECONDS = 30.0
"""How long PostgreSQL's primary is frozen: longer than Patroni's lock lives, so another takes over."""

Act = Callable[[Damage, Random], Awaitable["Undo | None"]]
Undo = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Fault:
    """``strike`` does the damage, and gives what ends it where the fault lasts for ``lasts`` seconds.

    Recovery is counted from the strike, or from the end where nothing can recover before: ``from_its_end``. ``heals``
    are the components whose pods are replaced.
    """

    name: str
    strike: Act
    lasts: float = 0.0
    from_its_end: bool = False
    short: bool = False
    """Whether the end-to-end tests have it."""


def _kill(component: str, count: int | None = 1) -> Act:
    """Kill some pods of a component, chosen at random; all of them with None."""

    async def strike(damage: Damage, random: Random) -> None:
        pods = await damage.pods(component)
        await damage.kill(pods if count is None else random.sample(pods, min(count, len(pods))))

    return strike


def _kill_together(*components: str) -> Act:
    async def strike(damage: Damage, _: Random) -> None:
        await damage.kill([pod for component in components for pod in await damage.pods(component)])

    return strike


def _take_away(component: str) -> Act:
    """Scale a store to nothing; its volumes stay. The operator is away meanwhile, for it would put the store back."""

    async def strike(damage: Damage, _: Random) -> Undo:
        replicas, pods = await damage.replicas(component), await damage.pods(component)

        async def put_back() -> None:
            await damage.scale(component, replicas)
            await damage.scale_operator(1)

        try:
            await damage.scale_operator(0)
            await damage.scale(component, 0)
            await damage.kill(pods)
        except BaseException:
            await put_back()
            raise
        return put_back

    return strike


async def _kill_primary(damage: Damage, _: Random) -> None:
    await damage.kill([await damage.truth.primary()])


async def _kill_standby(damage: Damage, _: Random) -> None:
    pods = await damage.pods("postgres")
    await damage.kill([pod for pod in pods if pod["metadata"]["labels"].get(ROLE) != "primary"])


async def _freeze_primary(damage: Damage, _: Random) -> Undo:
    frozen = [await damage.truth.primary()]
    await damage.freeze(frozen)

    async def thaw() -> None:
        await damage.thaw(frozen)

    return thaw


async def _kill_redis_primary(damage: Damage, _: Random) -> None:
    await damage.kill([await damage.redis_primary()])


async def _wipe_redis(damage: Damage, _: Random) -> None:
    await damage.flush_redis()


async def _kill_operator(damage: Damage, _: Random) -> None:
    await damage.kill_operator()


FAULTS: Sequence[Fault] = (
    Fault("scores-pod", _kill("scores"), short=True),
    Fault("scores-all", _kill("scores", None)),
    Fault("projector", _kill("projector", None), short=True),
    Fault("scoreboard-pod", _kill("scoreboard"), short=True),
    Fault("auth-and-analytics", _kill_together("auth", "analytics"), short=True),
    Fault("gateway", _kill_together("gateway", "ratelimit"), short=True),
    Fault("operator", _kill_operator, short=True),
    Fault("postgres-primary", _kill_primary, short=True),
    Fault("postgres-primary-frozen", _freeze_primary, lasts=FROZEN_SECONDS),
    Fault("postgres-standby", _kill_standby),
    Fault("redis-primary", _kill_redis_primary, short=True),
    Fault("redis-all", _kill("redis", None), short=True),
    Fault("redis-wiped", _wipe_redis, short=True),
    Fault("redis-away", _take_away("redis"), lasts=REDIS_AWAY_SECONDS, from_its_end=True),
    Fault("nats-server", _kill("nats"), short=True),
    Fault("nats-two", _kill("nats", 2), short=True),
    Fault("nats-away", _take_away("nats"), lasts=AWAY_SECONDS, from_its_end=True),
)
"""Every fault."""
