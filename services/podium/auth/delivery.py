"""Telling every pod about revoked sessions and restricted users, through the security bucket.

PostgreSQL is the truth and notes what was told. A request tells at once; a loop repeats what could not be told, and on
every new connection to NATS all that still matters is told again, for the bucket may be a new one.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

import msgspec
import structlog

from podium.auth.metrics import DELIVERIES
from podium.auth.restrictions import RestrictionStore
from podium.auth.store import SessionStore
from podium.common.bus import OUTAGE, Bus, user_token
from podium.common.loops import heed_cancellation
from podium.common.outbox import send
from podium.common.problems import StoreUnavailable
from podium.common.security_state import RESTRICTED_PREFIX, REVOKED_PREFIX

SWEEP_SECONDS: Final = 0.4
"""How often the loop looks for what was not told; with the sending itself this stays within the second promised."""

HOUSEKEEPING_SECONDS: Final = 60.0
"""How often ended sessions are deleted."""

AT_ONCE_SECONDS: Final = 0.6
"""How long a request waits for its own telling before it leaves it to the loop."""

REVOKED_MARGIN_SECONDS: Final = 60
"""How much longer than its access tokens a revocation is remembered."""

_log = structlog.get_logger("podium.auth.delivery")


class Deliveries:
    """Tells pods; ``access_ttl`` in seconds."""

    def __init__(
        self,
        sessions: SessionStore,
        restrictions: RestrictionStore,
        bus: Callable[[], Bus | None],
        access_ttl: int,
    ) -> None:
        self._sessions = sessions
        self._restrictions = restrictions
        self._bus = bus
        self._remember = access_ttl + REVOKED_MARGIN_SECONDS
        self._everything = True

    def tell_everything(self) -> None:
        """Have the loop tell everything again (NATS is back)."""
        self._everything = True

    async def revoked(self, sids: Sequence[str]) -> None:
        """Tell about revoked sessions now, or leave it to the loop; never fails."""
        await self._soon(self._tell_revoked(sids, "at once"))

    async def restricted(self, user_id: str) -> None:
        """Tell about a user now, or leave it to the loop; never fails."""
        await self._soon(self._tell_restriction(user_id, "at once"))

    async def run(self) -> None:
        """Repeat for ever what was not told."""
        while True:
            heed_cancellation()
            try:
                await self._sweep()
            except (*OUTAGE, StoreUnavailable) as error:
                _log.warning("security state cannot be told now", error=str(error) or type(error).__name__)
            await asyncio.sleep(SWEEP_SECONDS)

    async def expire(self, after: Callable[[str], None]) -> None:
        """Lift restrictions whose time is over, for ever; ``after`` is called for each user."""
        while True:
            heed_cancellation()
            try:
                for user, written in await self._restrictions.lift_expired():
                    bus = self._bus()
                    if bus is not None and bus.connected:
                        await send(self._restrictions.engine, bus, written)
                    after(user)
                    await self.restricted(user)
            except StoreUnavailable:
                _log.warning("restrictions cannot be lifted while the database is away")
            await asyncio.sleep(SWEEP_SECONDS)

    async def housekeep(self) -> None:
        """Delete ended sessions and their revocations, for ever."""
        while True:
            heed_cancellation()
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            try:
                while ended := await self._sessions.drop_ended():
                    bucket = await self._connected().security_bucket()
                    for sid in (sid for sid, revoked in ended if revoked):
                        await bucket.purge(REVOKED_PREFIX + sid)
            except (*OUTAGE, StoreUnavailable) as error:
                _log.warning("ended sessions stay for now", error=str(error) or type(error).__name__)

    async def _sweep(self) -> None:
        if self._everything:
            self._connected()
            self._everything = False
            try:
                sids = await self._sessions.recent_revocations(self._remember)
                await self._tell_revoked(sids, "again")
                await self._restrictions.redeliver_all()
            except BaseException:
                self._everything = True
                raise
        while sids := await self._sessions.unsent_revocations():
            await self._tell_revoked(sids, "repeated")
        while users := await self._restrictions.undelivered():
            for user in users:
                await self._tell_restriction(user, "repeated")

    async def _soon(self, telling: Coroutine[Any, Any, None]) -> None:
        try:
            await asyncio.wait_for(telling, AT_ONCE_SECONDS)
        except (*OUTAGE, StoreUnavailable) as error:
            _log.warning("left to the loop", error=str(error) or type(error).__name__)

    async def _tell_revoked(self, sids: Sequence[str], way: str) -> None:
        if not sids:
            return
        bucket = await self._connected().security_bucket()
        value = msgspec.json.encode({"exp": int(time.time()) + self._remember})
        for sid in sids:
            await bucket.put(REVOKED_PREFIX + sid, value)
        await self._sessions.mark_sent(sids)
        DELIVERIES.labels("revocation", way).inc(len(sids))

    async def _tell_restriction(self, user_id: str, way: str) -> None:
        bucket = await self._connected().security_bucket()
        async with self._restrictions.delivery(user_id) as delivery:
            key = RESTRICTED_PREFIX + user_token(user_id)
            if delivery.kind is None:
                await bucket.purge(key)
            else:
                until = delivery.until.timestamp() if delivery.until else None
                await bucket.put(key, msgspec.json.encode({"kind": delivery.kind, "until": until}))
            await delivery.done()
        DELIVERIES.labels("restriction", way).inc()

    def _connected(self) -> Bus:
        bus = self._bus()
        if bus is None or not bus.connected:
            raise StoreUnavailable("nats")
        return bus
