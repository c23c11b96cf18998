"""Players who keep earning points, and repeat each update with the same actionId until they know the truth."""

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx

from tests.chaos.ledger import VALUE, Answer, Key, Ledger
from tests.support.client import Client, Session, Update

TRANSIENT = frozenset({429, 500, 502, 503, 504})
"""Answers that a client meets while something is away; all of them mean: try again with the same actionId."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
"""Pause before a repeat where the answer names none: it doubles with each try, with full jitter."""

RENEW_SHARE = 0.7
"""A session is renewed after this share of its token's life."""

IMPATIENT_SHARE = 0.05
"""Updates that an impatient client sends twice at once."""

RANGE = 10_000
"""Values of one moment lie within so many milliseconds after it."""

STARS = 3
"""Players who earn more than the others, so that each of their updates changes the top."""


class Attempt(NamedTuple):
    """One request with an update that was acknowledged: when it was answered, and how long that took in seconds."""

    answered: float
    seconds: float


@dataclass
class Pace:
    """How much a crowd plays: players, seconds between two updates of one, and how many updates each sends at most."""

    players: int
    interval: float
    updates: int | None = None


@dataclass
class _Player:
    session: Session
    renew_at: float
    is_star: bool
    names_values: bool
    sent: int = 0


@dataclass
class Crowd:
    """Players of one Scoreboard. ``ledger`` is what they know, the rest is what they met on the way."""

    client: Client
    pace: Pace
    prefix: str
    """What the players' ids begin with. Players of an earlier crowd may play on."""
    values: bool = False
    """Whether every other player brings values to the boards for them instead of earning points."""
    ledger: Ledger = field(default_factory=Ledger)
    attempts: list[Attempt] = field(default_factory=list)
    fresh: list[Key] = field(default_factory=list)
    """Updates acknowledged since ``take_fresh``."""
    stars: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    """By star: when an update was acknowledged, and the score it made."""
    troubles: Counter[str] = field(default_factory=Counter)
    """Answers and errors other than a 200, each of which was followed by a repeat."""
    faults_of_form: Counter[str] = field(default_factory=Counter)
    """Answers that no client should get: a 503 that does not say when to come back, a status out of place."""
    _players: list[_Player] = field(default_factory=list)
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _busy: int = 0
    _quiet: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def enter(self) -> None:
        """Open every player's session."""
        names = [f"{self.prefix}-{number:03}" for number in range(self.pace.players)]
        opened = await asyncio.gather(*(self._session(name) for name in names))
        for number, session in enumerate(opened):
            is_star = number < STARS
            self._players.append(
                _Player(session, _renewal(session), is_star, self.values and not is_star and number % 2 > 0)
            )

    @property
    def users(self) -> list[str]:
        """All players' ids."""
        return [player.session.user_id for player in self._players]

    @property
    def star_ids(self) -> list[str]:
        """The stars' ids."""
        return [player.session.user_id for player in self._players if player.is_star]

    async def play(self) -> None:
        """Play until cancelled, or until every player has sent all its updates; ``pause`` and ``go_on`` steer it."""
        async with asyncio.TaskGroup() as group:
            for number, player in enumerate(self._players):
                group.create_task(self._play(player, self.pace.interval * number / len(self._players)))

    def go_on(self) -> None:
        """Let the players play."""
        self._open.set()

    async def pause(self) -> None:
        """Hold the players back, and wait until each knows the truth about what it sent."""
        self._open.clear()
        async with self._quiet:
            await self._quiet.wait_for(lambda: self._busy == 0)

    def take_fresh(self) -> list[Key]:
        """The updates acknowledged since the last call."""
        fresh, self.fresh = self.fresh, []
        return fresh

    async def _play(self, player: _Player, offset: float) -> None:
        await asyncio.sleep(offset)
        while self.pace.updates is None or player.sent < self.pace.updates:
            if not self._open.is_set():
                await self._open.wait()
                await asyncio.sleep(offset)  # or all would play at once from now on
            begun = time.monotonic()
            self._busy += 1
            try:
                player.sent += 1
                await self._earn(player)
            finally:
                self._busy -= 1
                async with self._quiet:
                    self._quiet.notify_all()
            await asyncio.sleep(max(0.0, begun + self.pace.interval - time.monotonic()))

    async def _earn(self, player: _Player) -> None:
        value = None
        if player.names_values:
            # They grow with time, so half of the updates are a new best and half are not.
            value = int(time.time() * 1000) + random.randrange(RANGE)
            update = Update.of(VALUE, data={"value": value})
        elif player.is_star:
            update = Update.of("bonus", data={"level": 1})
        else:
            update = Update.of("win")
        key = Key(player.session.user_id, json.loads(update.body)["actionId"])
        self.ledger.sent(key, value)
        copies = 2 if random.random() < IMPATIENT_SHARE else 1
        known = await asyncio.gather(*(self._settle(player, key, update) for _ in range(copies)))
        answers = [answer for answer in known if answer is not None]
        if answers:
            self.fresh.append(key)
            if player.is_star:
                self.stars[key.user_id].append((time.monotonic(), answers[0].score))

    async def _settle(self, player: _Player, key: Key, update: Update) -> Answer | None:
        """Repeat an update until its fate is known; None where it was refused for good."""
        longest = FIRST_PAUSE_SECONDS
        while True:
            if time.monotonic() > player.renew_at:
                player.session = await self._session(key.user_id)
                player.renew_at = _renewal(player.session)
            begun = time.monotonic()
            pause = random.uniform(0, longest)
            longest = min(2 * longest, LONGEST_PAUSE_SECONDS)
            try:
                response = await self.client.send(player.session, update.again())
            except httpx.TransportError as error:
                self.troubles[type(error).__name__] += 1
            else:
                if response.status_code == httpx.codes.OK:
                    return self._acknowledged(key, response, time.monotonic() - begun)
                if response.status_code in TRANSIENT:
                    pause = self._pause(response, pause)
                elif _slug(response) == "stale-timestamp":
                    # The actionId is looked up first, so this also says that the update was never counted.
                    self.ledger.refuse(key, "stale-timestamp")
                    return None
                else:
                    self.faults_of_form[f"{response.status_code} {_slug(response)}"] += 1
            await asyncio.sleep(pause)

    def _acknowledged(self, key: Key, response: httpx.Response, seconds: float) -> Answer:
        body = response.json()
        answer = Answer(body["score"], body["scoreIncrease"], body["totalActions"])
        self.ledger.answered(key, answer)
        self.attempts.append(Attempt(time.monotonic(), seconds))
        return answer

    def _pause(self, response: httpx.Response, otherwise: float) -> float:
        """Seconds that the answer asks to wait."""
        self.troubles[f"{response.status_code} {_slug(response)}"] += 1
        named = response.headers.get("retry-after", "")
        if named.isdigit():
            return int(named) + random.uniform(0, FIRST_PAUSE_SECONDS)
        if response.status_code in {httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS}:
            self.faults_of_form[f"{response.status_code} without Retry-After"] += 1
        return otherwise

    async def _session(self, user_id: str) -> Session:
        """A session of a user, however long the way to it is broken."""
        while True:
            try:
                return await self.client.open_session(user_id)
            except (httpx.TransportError, AssertionError) as error:
                self.troubles[f"no session: {type(error).__name__}"] += 1
            await asyncio.sleep(LONGEST_PAUSE_SECONDS)


def _renewal(session: Session) -> float:
    return time.monotonic() + RENEW_SHARE * session.expires_in


def _slug(response: httpx.Response) -> str:
    try:
        return str(response.json()["type"]).rsplit("/", 1)[-1]
    except (ValueError, KeyError, TypeError):
        return "no problem document"
