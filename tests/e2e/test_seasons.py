"""Ended seasons and HEAD through the gateway. Nothing is reset here: all other tests play on the same board."""

import pytest

from tests.e2e.problem import check_problem
from tests.support.client import Client

PATH = "/api/v1/scoreboard/seasons"


async def test_the_seasons_of_a_board(client: Client) -> None:
    """The one that runs, and those that have ended, newest first; only the latter can be read."""
    answer = await client.http.get(f"{PATH}?board=default")
    assert answer.status_code == 200
    assert answer.headers["etag"]
    found = answer.json()
    current, ended = found["current"]["season"], [one["season"] for one in found["seasons"]]
    assert ended == sorted(ended, reverse=True)
    assert all(season < current for season in ended)
    check_problem(await client.http.get(f"{PATH}/{current}?board=default"), 404, "season-unknown")
    check_problem(await client.http.get(f"{PATH}/none"), 400, "malformed-request")
    check_problem(await client.http.get(f"{PATH}?board=no-such-board"), 400, "malformed-request")


@pytest.mark.parametrize("path", ["/api/v1/scoreboard", PATH, "/", "/openapi.json"])
async def test_head_has_no_content(client: Client, path: str) -> None:
    """The headers of GET, and its length."""
    answer = await client.http.head(path)
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 0
