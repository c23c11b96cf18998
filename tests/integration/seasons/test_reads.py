"""Reading ended seasons over HTTP, and HEAD on what GET reads."""

from collections.abc import AsyncIterator

import httpx
import pytest

from podium.analytics import archive
from podium.common.health import Health
from podium.common.settings import (
    DatabaseSettings,
    JwtSettings,
    NatsSettings,
    ProcessSettings,
    RedisSettings,
    RulesSettings,
)
from podium.scoreboard import seasons
from podium.scoreboard.app import Settings, create_app
from tests.integration.scoreboard.services import BOARDS, TIERS, Issuer
from tests.integration.scoreboard.support import running_projector, until
from tests.integration.seasons.conftest import Database
from tests.support.apps import run_app
from tests.support.stores import Stores

PATH = "/api/v1/scoreboard/seasons"


@pytest.fixture
async def http(
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a scoreboard service that keeps no answer."""
    monkeypatch.setattr(seasons, "CACHED_SECONDS", 0.0)
    health = Health()
    settings = Settings(
        process=ProcessSettings(pod="test"),
        database=database_settings,
        redis=redis_settings,
        nats=nats_settings,
        jwt=JwtSettings(jwks=Issuer().jwks),
        rules=RulesSettings(boards=BOARDS, tiers=TIERS),
    )

    async def ready() -> bool:
        return not health.missing()

    async with (
        running_projector(database_settings, redis_settings, nats_settings, BOARDS),
        run_app(create_app(settings, health)) as app,
        httpx.AsyncClient(base_url=app.url, timeout=10) as client,
    ):
        await until(ready, "the scoreboard is ready")
        yield client


async def _places(http: httpx.AsyncClient, season: int, **params: str | int) -> list[tuple[int, str, int]]:
    answer = await http.get(f"{PATH}/{season}", params=params)
    assert answer.status_code == 200, answer.text
    return [(place["rank"], place["userId"], place["score"]) for place in answer.json()["rankings"]]


async def test_an_ended_season_reads_the_same_before_and_after_it_is_archived(
    http: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the moment of the reset, while its scores move, and later: the order at the season's end."""
    monkeypatch.setattr(archive, "ROWS_LOOKED_AT", 1)
    await database.add_scores(("c", 5), ("b", 7), ("a", 5), ("d", -1))
    expected = [(1, "b", 7), (2, "c", 5), (3, "a", 5), (4, "d", -1)]
    await database.boards.reset("default")
    await database.run(
        """
        INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated, total_actions)
        VALUES ('default', 'e', 'e', 99, (1::bigint << 32) + 1, now(), now(), 1)
        """
    )
    place = None
    for _ in range(5):
        assert await _places(http, 1) == expected
        assert (await http.get(f"{PATH}/1")).json()["players"] is None
        _, place = await database.archive.step("default", place)
    await database.archive_all()
    assert await _places(http, 1) == expected
    assert await _places(http, 1, limit=2) == expected[:2]
    found = (await http.get(f"{PATH}/1")).json()
    assert (found["board"], found["season"], found["players"], found["startedAt"]) == ("default", 1, 4, None)


async def test_the_list_tells_when_seasons_began_and_ended(http: httpx.AsyncClient, database: Database) -> None:
    """Newest first, each beginning where the one before ended, and the one that runs."""
    empty = (await http.get(PATH)).json()
    assert empty == {"board": "default", "current": {"season": 1, "startedAt": None, "endsAt": None}, "seasons": []}
    await database.add_scores(("a", 1))
    for _ in range(2):
        await database.boards.reset("default")
    await database.archive_all()
    await database.boards.reset_due({"default": "@daily"})
    found = (await http.get(PATH)).json()
    newest, oldest = found["seasons"]
    assert [(one["season"], one["players"]) for one in (newest, oldest)] == [(2, 0), (1, 1)]
    assert oldest["startedAt"] is None
    assert newest["startedAt"] == oldest["endedAt"]
    assert found["current"]["startedAt"] == newest["endedAt"]
    assert found["current"]["endsAt"].endswith("T00:00:00.000000Z")
    assert (await http.get(PATH, params={"board": "weekly"})).json()["current"]["season"] == 1


async def test_who_is_banned_or_hidden_now_is_left_out(http: httpx.AsyncClient, database: Database) -> None:
    """Whenever that was decided; who is blocked only, or not any more, is shown."""
    await database.add_scores(("a", 5), ("b", 4), ("c", 3), ("d", 2), ("e", 1))
    await database.boards.reset("default")
    await database.archive_all()
    for user, kind, end in (
        ("a", "ban", None),
        ("b", "hide", "infinity"),
        ("c", "block", None),
        ("d", "ban", "2020-01-01"),
    ):
        await database.run(
            """
            INSERT INTO player (user_id, username, restriction, restricted_until)
            VALUES (:user, '', :kind, CAST(CAST(:until AS text) AS timestamptz))
            """,
            user=user,
            kind=kind,
            until=end,
        )
    assert await _places(http, 1) == [(1, "c", 3), (2, "d", 2), (3, "e", 1)]
    await database.run("UPDATE player SET restriction = NULL, restricted_until = NULL")
    assert [user for _, user, _ in await _places(http, 1)] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("path", "status", "slug"),
    [
        ("/1", 404, "season-unknown"),
        ("/2097152", 404, "season-unknown"),
        ("/0", 400, "malformed-request"),
        ("/-1", 400, "malformed-request"),
        ("/one", 400, "malformed-request"),
        ("/1.0", 400, "malformed-request"),
        ("/1?limit=0", 400, "malformed-request"),
        ("/1?limit=1001", 400, "malformed-request"),
        ("/1?limit=1&limit=2", 400, "malformed-request"),
        ("/1?board=none", 400, "malformed-request"),
        ("/1?around=5", 400, "malformed-request"),
        ("?board=none", 400, "malformed-request"),
        ("?limit=5", 400, "malformed-request"),
    ],
)
async def test_bad_values_and_unknown_seasons(http: httpx.AsyncClient, path: str, status: int, slug: str) -> None:
    """As everywhere: 400 for what cannot be, 404 for what is not there."""
    answer = await http.get(PATH + path)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, slug)


async def test_seasons_can_be_cached(http: httpx.AsyncClient, database: Database) -> None:
    """A strong validator, 304 without content, and keys to purge by."""
    await database.add_scores(("a", 1))
    await database.boards.reset("default")
    for path in (PATH, f"{PATH}/1"):
        answer = await http.get(path)
        assert "s-maxage" in answer.headers["cache-control"]
        assert answer.headers["surrogate-key"] == "scoreboard-seasons scoreboard-seasons-default"
        again = await http.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", answer.headers["etag"])


async def test_a_database_away_is_said(http: httpx.AsyncClient, database: Database, stores: Stores) -> None:
    """The live ranking goes on meanwhile."""
    await database.boards.reset("default")
    stores.postgres.process.stop()
    try:
        answer = await http.get(PATH)
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (503, "database-unavailable")
        assert (await http.get("/api/v1/scoreboard")).status_code == 200
    finally:
        stores.postgres.process.restart()


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/scoreboard",
        "/api/v1/scoreboard?limit=0",
        "/api/v1/scoreboard/users/nobody",
        PATH,
        f"{PATH}/1",
        f"{PATH}/9",
        "/",
        "/assets/page.js",
        "/openapi.json",
        "/asyncapi.json",
    ],
)
async def test_head_has_the_headers_of_get_and_no_content(
    http: httpx.AsyncClient, database: Database, path: str
) -> None:
    """For every read, whatever its status."""
    await database.boards.reset("default")
    own = ("date",)
    get, head = await http.get(path), await http.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    kept = {name: value for name, value in get.headers.items() if name not in own}
    assert {name: value for name, value in head.headers.items() if name not in own} == kept
    assert head.headers["content-length"] == str(len(get.content))


async def test_head_is_counted_by_its_route(http: httpx.AsyncClient) -> None:
    """Under its own method, and the route that GET has."""
    await http.head(f"{PATH}/9")
    labels = 'method="HEAD",route="/api/v1/scoreboard/seasons/{season}",service="scoreboard",status="404"'
    assert f"podium_http_request_duration_seconds_count{{{labels}}}" in (await http.get("/metrics")).text


async def test_head_opens_no_stream(http: httpx.AsyncClient) -> None:
    """A stream has no end, so only GET opens it."""
    assert (await http.head("/api/v1/scoreboard/stream")).status_code == 405
