"""What the end of an access token's lifetime means. Runs last, when a token from the beginning is old."""

import time

import pytest

from tests.e2e.problem import check_problem
from tests.support.client import Client, Session
from tests.support.instance import Instance
from tests.support.watcher import watch


@pytest.mark.timeout(420)
async def test_an_expired_token_is_refused(client: Client, instance: Instance, early_session: Session) -> None:
    """An update is refused, a connection opened with the token is closed with 4001; a refresh goes on."""
    remaining = early_session.claims["exp"] - time.time()
    if remaining > 1:
        async with watch(instance.ws_url, token=early_session.access_token) as watcher:
            assert await watcher.closed(seconds=remaining + 10) == 4001
    check_problem(await client.update(early_session), 401, "token-expired")
    renewed = Session.of(early_session.user_id, (await client.refresh(early_session.refresh_token)).json())
    assert (await client.update(renewed)).status_code == 200
