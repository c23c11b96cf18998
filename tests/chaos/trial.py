"""One fault under load: strike, watch until all is well again, hold the players back, compare the ledger."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from tests.chaos.damage import REFUSED, Damage
from tests.chaos.faults import Fault, Undo
from tests.chaos.ledger import Ranking, Verdict, audit, differences
from tests.chaos.players import Attempt, Crowd
from tests.chaos.recovery import WINDOW_SECONDS, Observation, Span, merged, percentile, recovered, sightings
from tests.chaos.truth import BOARD, NOT_YET, PAGE, Truth
from tests.chaos.watchers import Gallery
from tests.support.client import Client
from tests.support.instance import Instance

NORMAL_SECONDS = 5.0
"""The rate before a fault is that of so many seconds."""

OBSERVE_SECONDS = 240.0
"""A fault that is felt for longer than this is not recovered from."""

SETTLE_SECONDS = 60.0
"""How long views may need to show the last updates after the players stopped; what differs then, differs."""

UNSETTLED_SECONDS = 180.0
"""How long an update may be repeated after the other players stopped; what has no answer then is a finding."""

MOMENT_SECONDS = 2.0
"""How long players play before a fault of the short form strikes."""

TOP = 10
"""Places of the sample's board in a snapshot."""

OUTBOX_SECONDS = 0.1
"""Time between two looks at the outbox."""


class Waiting(NamedTuple):
    """A look at the outbox: when, how many events waited, how old the oldest was in seconds."""

    moment: float
    events: int
    age: float


@dataclass(frozen=True)
class Report:
    """What one fault did. Times in seconds; ``during`` is from the strike until recovery."""

    fault: str
    recovery: float
    later: float
    """For how long something was amiss after that, until all pods were there again."""
    unaccepted: Sequence[Span]
    unshown: Sequence[Span]
    """When fewer updates were accepted than normally, and when some were not shown; 0 is where recovery begins."""
    acknowledged: int
    verdict: Verdict
    p99_before: float
    p99_during: float
    share_during: float
    """Updates acknowledged while the fault lasted, as a share of the normal rate; NaN where it did not last."""
    outbox_age: float
    """The greatest age of an event in the outbox."""
    troubles: dict[str, int] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether nothing was found, and all was well in the end."""
        return self.verdict.clean and self.recovery < OBSERVE_SECONDS

    def as_json(self) -> dict[str, object]:
        """The fault's entry in ``chaos.json``."""
        return {
            "name": self.fault,
            "recoverySeconds": round(self.recovery, 1),
            "acknowledged": self.acknowledged,
            "lost": len(self.verdict.lost),
            "double": len(self.verdict.double),
            "differing": len(self.verdict.differing),
        }


class _Felt(NamedTuple):
    """When all was well again, and what was amiss, in moments."""

    well: float
    unaccepted: Sequence[Span]
    unshown: Sequence[Span]


class Arena:
    """A Scoreboard under load, with everything that watches it. Use as a context manager."""

    def __init__(self, instance: Instance, client: Client, crowd: Crowd) -> None:
        self.instance = instance
        self.crowd = crowd
        self.truth = Truth(instance, client)
        self.damage = Damage(instance, self.truth)
        self.gallery: Gallery
        self._outbox: list[Waiting] = []
        self._dead_letters = 0
        self._playing: asyncio.Task[None]
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Arena":
        async with self._stack as stack:
            await self.crowd.enter()
            before, _ = await self.truth.books(self.crowd.users, [])
            self._dead_letters = await self.truth.dead_letters()
            self.crowd.ledger.opening, self.crowd.ledger.opening_values = before.balances(), before.values
            self.gallery = await stack.enter_async_context(Gallery(self.instance, self.crowd.star_ids))
            self._playing = await stack.enter_async_context(_running(self.crowd.play()))
            await stack.enter_async_context(_running(self._watch_outbox()))
            self.crowd.go_on()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def until_the_stars_lead(self, seconds: float = 60) -> None:
        """Wait until every star is in the top that watchers see. Raises TimeoutError where others are too far ahead."""
        stars = set(self.crowd.star_ids)
        try:
            async with asyncio.timeout(seconds):
                while not all(stars <= {place.user_id for place in seat.top} for seat in self.gallery.seats):
                    await asyncio.sleep(0.2)
        except TimeoutError:
            tops = "; ".join(f"{seat.name}: {[tuple(place) for place in seat.top]}" for seat in self.gallery.seats)
            raise TimeoutError(
                f"the players {sorted(stars)} did not reach the top of {BOARD!r} within {seconds:g} s. Where others "
                f"are far ahead there, reset the board (POST /api/v1/admin/boards/{BOARD}/reset) or use a new "
                f"Scoreboard. Seen were {tops}"
            ) from None

    async def skirmish(self, fault: Fault, random: Random) -> tuple[int, Verdict]:
        """The short form: a fault strikes while the players send a fixed number of updates; then all is compared."""
        await asyncio.sleep(MOMENT_SECONDS)
        undo = await fault.strike(self.damage, random)
        if undo is not None:
            await _endure(fault, undo)
        await self._playing
        return await self.compare()

    async def run(self, fault: Fault, random: Random) -> Report:
        """Let a fault happen, wait until all is well again, and report on it.

        Raises TimeoutError where the Scoreboard is not Ready to begin with.
        """
        await asyncio.to_thread(self.instance.wait_settled)
        self._forget()
        self.crowd.go_on()
        await asyncio.sleep(NORMAL_SECONDS + WINDOW_SECONDS)
        before = time.monotonic()
        normal = self._observed().rate(before - NORMAL_SECONDS, before)
        if not normal:
            raise TimeoutError(f"no update was accepted in the {NORMAL_SECONDS:g} s before {fault.name}")
        self.damage.begun = None
        undo = await fault.strike(self.damage, random)
        struck = self.damage.begun or before
        ended = struck
        if undo is not None:
            ended = await _endure(fault, undo)
        begin = ended if fault.from_its_end else struck
        felt = await self._recovery(begin, normal)
        well = felt.well
        share = self._observed().rate(struck, ended) / normal if ended > struck else math.nan
        acknowledged, verdict = await self.compare()
        return Report(
            fault=fault.name,
            recovery=min(well - begin, OBSERVE_SECONDS),
            later=sum(
                each.end - each.begin for each in merged([*felt.unaccepted, *felt.unshown]) if each.begin >= well
            ),
            unaccepted=[Span(each.begin - begin, each.end - begin) for each in felt.unaccepted],
            unshown=[Span(each.begin - begin, each.end - begin) for each in felt.unshown],
            acknowledged=acknowledged,
            verdict=verdict,
            p99_before=self._p99(before - NORMAL_SECONDS, struck),
            p99_during=self._p99(struck, max(struck + NORMAL_SECONDS, min(well, time.monotonic()), ended)),
            share_during=share,
            outbox_age=max((each.age for each in self._outbox if each.moment >= struck), default=math.nan),
            troubles=dict(self.crowd.troubles),
        )

    async def compare(self) -> tuple[int, Verdict]:
        """Hold the players back and compare all that there is; how many updates were acknowledged since the last time.

        Views may be behind for a while, then they must show exactly what PostgreSQL holds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(UNSETTLED_SECONDS):
                await self.crowd.pause()
        keys = self.crowd.take_fresh()
        books, rankings = await self.truth.books(self.crowd.users, keys)
        verdict = audit(self.crowd.ledger, books, keys)
        found = ["the views were never read"]
        deadline = time.monotonic() + SETTLE_SECONDS
        while found and time.monotonic() < deadline:
            try:
                found = await self._views(rankings)
            except (*NOT_YET, *REFUSED) as error:
                found = [f"a view cannot be read: {error}"]
            if found:
                await asyncio.sleep(0.5)
        verdict.differing += found
        verdict.differing += self.gallery.take_violations()
        return len(keys), verdict

    async def _views(self, rankings: Mapping[str, Ranking]) -> list[str]:
        """Where a view differs from the rankings by SQL, or a message waits that should have gone."""
        found = []
        await self.gallery.follow_pods()
        places = rankings[BOARD].places
        for seat in self.gallery.seats:
            found += differences(seat.name, seat.top, places[:TOP])
            if not seat.connected:
                found.append(f"{seat.name} is not connected")
        if found:
            return found
        own = {place.user_id: place for place in places}
        for user_id in self.crowd.star_ids:
            found += differences(f"the page of {user_id}", [await self.truth.own_page(user_id)], [own[user_id]])
        for board, ranking in rankings.items():
            found += differences(f"GET ?board={board}", await self.truth.page(board), ranking.places[:PAGE])
            found += differences(f"{board} in Redis", await self.truth.redis_ranking(board), ranking.standings)
        return found or await self._messages()

    async def _messages(self) -> list[str]:
        """Messages that should not be there: no event waits for ever, and no fault makes one a dead letter."""
        found = []
        if waiting := await self.truth.waiting():
            found.append(f"{waiting} events wait in the outbox")
        if (dead := await self.truth.dead_letters()) != self._dead_letters:
            found.append(f"there are {dead} dead letters, before there were {self._dead_letters}")
        return found

    async def _recovery(self, begin: float, normal: float) -> "_Felt":
        """Wait until all is well; the moment is infinite where it did not come within ``OBSERVE_SECONDS``."""
        deadline = time.monotonic() + OBSERVE_SECONDS
        while True:
            now = time.monotonic()
            observed = self._observed()
            unaccepted, unshown = observed.unaccepted(begin, now, normal), observed.unshown(begin, now)
            moment = recovered(merged([*unaccepted, *unshown]), begin, now)
            if now > deadline:
                return _Felt(math.inf, unaccepted, unshown)
            if moment is not None and await self._settled():
                return _Felt(moment, unaccepted, unshown)
            await asyncio.sleep(1)

    async def _settled(self) -> bool:
        with contextlib.suppress(*REFUSED):
            await self.gallery.follow_pods()
            return await asyncio.to_thread(self.instance.is_settled)
        return False

    def _observed(self) -> Observation:
        """What visitors have seen of the stars; what watchers on pods see ends with their pods."""
        shown = [
            each
            for seat in self.gallery.visitors
            for star, updates in self.crowd.stars.items()
            for each in sightings(updates, seat.seen[star])
        ]
        return Observation([attempt.answered for attempt in self.crowd.attempts], shown)

    def _p99(self, begin: float, end: float) -> float:
        def within(attempt: Attempt) -> bool:
            return begin <= attempt.answered <= end

        return percentile([each.seconds for each in self.crowd.attempts if within(each)], 0.99)

    def _forget(self) -> None:
        """Begin the next fault's observation."""
        self.crowd.attempts.clear()
        self.crowd.troubles.clear()
        self.crowd.stars.clear()
        self._outbox.clear()
        for seat in self.gallery.seats:
            seat.seen.clear()

    async def _watch_outbox(self) -> None:
        while True:
            with contextlib.suppress(*NOT_YET, *REFUSED):
                async with self.truth.database() as connection:
                    while True:
                        async with asyncio.timeout(5):
                            events, age = await self.truth.outbox(connection)
                        self._outbox.append(Waiting(time.monotonic(), events, age))
                        await asyncio.sleep(OUTBOX_SECONDS)
            await asyncio.sleep(0.5)


async def _endure(fault: Fault, undo: Undo) -> float:
    """Let a fault last, and end it, also where the run is given up; the moment of its end."""
    try:
        await asyncio.sleep(fault.lasts)
    finally:
        ended = time.monotonic()
        await undo()
    return ended


@contextlib.asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Do something beside the block; what it raised is raised at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
