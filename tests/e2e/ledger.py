"""A ledger of updates under faults: what was acknowledged must be counted exactly once, whatever dies meanwhile."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import httpx

from tests.support.client import Client, Session, Update

POINTS = 10
"""Points of the action ``win``."""

UPDATES_PER_PLAYER = 9
"""One below the limit of ten a minute, so that no update of the ledger is refused."""

PAUSE_SECONDS = 0.25
"""Pause of a player before an update is repeated."""

PERMITTED = frozenset({429, 500, 502, 503, 504})
"""Answers that a client meets while something is away; all of them mean: try again with the same actionId."""


@dataclass
class Ledger:
    """Players who each send a few updates, repeating each one until it is acknowledged."""

    client: Client
    players: list[Session]
    acknowledged: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    replayed: int = 0

    @classmethod
    async def open(cls, client: Client, players: int) -> "Ledger":
        """Open the players' sessions."""
        return cls(client, list(await asyncio.gather(*(client.open_session() for _ in range(players)))))

    async def play(self, seconds: float) -> None:
        """Let every player send its updates, spread over a time."""

        async def player(session: Session, offset: float) -> None:
            await asyncio.sleep(offset)
            for _ in range(UPDATES_PER_PLAYER):
                await self._acknowledge(session, Update.of())
                await asyncio.sleep(seconds / UPDATES_PER_PLAYER)

        step = seconds / UPDATES_PER_PLAYER / len(self.players)
        await asyncio.gather(*(player(session, step * index) for index, session in enumerate(self.players)))

    async def settle(self, seconds: float) -> None:
        """Wait until every player's own row shows exactly what was acknowledged.

        Raises AssertionError with the differences that stay.
        """
        different: dict[str, object] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    different = await self._differences()
                    if not different:
                        return
                    await asyncio.sleep(1)
        except TimeoutError:
            raise AssertionError(f"(acknowledged, shown) differ: {different}; troubles: {self.troubles}") from None

    async def _acknowledge(self, session: Session, update: Update) -> None:
        while True:
            try:
                answer = await self.client.send(session, update.again())
            except httpx.TransportError as error:
                self.troubles[type(error).__name__] += 1
            else:
                if answer.status_code == httpx.codes.OK:
                    self.acknowledged[session.user_id] += POINTS
                    self.replayed += "idempotent-replayed" in answer.headers
                    return
                assert answer.status_code in PERMITTED, f"{answer.status_code} {answer.text}"
                self.troubles[str(answer.status_code)] += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def _differences(self) -> dict[str, object]:
        different: dict[str, object] = {}
        for session in self.players:
            answer = await self.client.http.get(f"/api/v1/scoreboard/users/{session.user_id}")
            shown = answer.json().get("score") if answer.status_code == httpx.codes.OK else answer.status_code
            if shown != self.acknowledged[session.user_id]:
                different[session.user_id] = (self.acknowledged[session.user_id], shown)
        return different
