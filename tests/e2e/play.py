"""Moves of the game that several end-to-end tests make."""

import asyncio
import secrets

import httpx

from tests.support.client import Client

TOP = 10
"""Rows that the sample's board shows."""


async def raise_someone_in_the_top(client: Client, *, username: str | None = None) -> tuple[str, int]:
    """Make an update that certainly changes the top, and return the user and the new score.

    With ``username`` the user is called so from then on.

    The backend may open sessions for any of its users, so a player who already is in the top plays on.
    """
    rankings = (await client.top())["rankings"]
    known = [row["userId"] for row in rankings]
    newcomers = [f"player-{secrets.token_hex(6)}"] if len(known) < TOP else []
    for user_id in newcomers + known:
        answer = await client.update(await client.open_session(user_id, username=username))
        if answer.status_code == httpx.codes.OK:
            return user_id, answer.json()["score"]
        assert answer.status_code == httpx.codes.TOO_MANY_REQUESTS, answer.text
    raise AssertionError("everyone in the top has spent the minute's quota")


async def rank_of(client: Client, user_id: str, score: int, seconds: float = 20) -> dict[str, object]:
    """Wait until a user's own row shows a score, and return the answer."""
    async with asyncio.timeout(seconds):
        while True:
            answer = await client.http.get(f"/api/v1/scoreboard/users/{user_id}")
            if answer.status_code == httpx.codes.OK and answer.json()["score"] == score:
                body: dict[str, object] = answer.json()
                return body
            await asyncio.sleep(0.1)
