"""Resets while scores come in: nothing is lost, nothing counts twice, and what has ended can be told from what runs."""

import asyncio
from collections import Counter

import httpx
import pytest
from sqlalchemy import text

from podium.analytics import archive
from podium.common.problems import StoreUnavailable
from podium.common.seasons import GATE, first_version, season_of
from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from tests.integration.scores.support import make_settings, open_session, running
from tests.integration.seasons.conftest import Database
from tests.support.client import Update


async def test_every_update_counts_in_one_season(
    database: Database,
    database_settings: DatabaseSettings,
    redis_settings: RedisSettings,
    nats_settings: NatsSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two pods take updates while the board is reset five times and archived: the seasons' sum is what was accepted."""
    monkeypatch.setattr(archive, "ROWS_LOOKED_AT", 3)
    settings = make_settings(database_settings, redis_settings, nats_settings, updates_per_user_per_minute=1000)
    sessions = [open_session(f"u{number:02}") for number in range(16)]
    accepted: Counter[str] = Counter()
    done = asyncio.Event()

    async with running(settings) as first, running(settings) as second:

        async def play(number: int) -> None:
            session = sessions[number]
            while not done.is_set():
                answer = await (first, second)[accepted[session.user_id] % 2].update(session)
                assert answer.status_code == httpx.codes.OK, answer.text
                accepted[session.user_id] += 1

        async def archive_on() -> None:
            while not done.is_set():
                await database.archive_all()
                await asyncio.sleep(0)

        async def reset() -> None:
            for number in range(5):
                wanted = sum(accepted.values()) + 60
                while sum(accepted.values()) < wanted:
                    await asyncio.sleep(0.005)
                assert (await database.boards.reset("default")).season == number + 2
            wanted = sum(accepted.values()) + 60
            while sum(accepted.values()) < wanted:
                await asyncio.sleep(0.005)
            done.set()

        await asyncio.gather(reset(), archive_on(), *(play(number) for number in range(len(sessions))))

    await database.archive_all()
    sums = await database.rows(
        """
        SELECT user_id, CAST(sum(score) AS bigint), CAST(sum(total_actions) AS bigint) FROM (
          SELECT user_id, score, total_actions FROM season_score UNION ALL
          SELECT user_id, score, total_actions FROM user_score) AS every GROUP BY user_id
        """
    )
    assert {user: (score, actions) for user, score, actions in sums} == {
        user: (10 * count, count) for user, count in accepted.items()
    }
    assert await database.one("SELECT count(*) FROM action_log") == sum(accepted.values())
    assert await database.one("SELECT count(DISTINCT season) FROM season_score") == 5
    versions = await database.rows("SELECT version FROM user_score")
    assert {season_of(version) for (version,) in versions} == {6}
    late = await database.one(
        """
        SELECT count(*) FROM season_score a JOIN season s USING (board, season)
        WHERE a.reached_at > s.ended_at OR a.reached_at < s.started_at
        """
    )
    assert late == 0


async def test_a_repeat_after_the_reset_gets_the_first_answer(
    database: Database, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """The same actionId with the same body counts for nothing in the new season; a new action begins at zero."""
    session, update = open_session("ann"), Update.of("win")
    async with running(make_settings(database_settings, redis_settings, nats_settings)) as scores:
        await scores.update(session)
        first = await scores.send(session, update)
        await database.boards.reset("default")
        again = await scores.send(session, update.again())
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
        assert again.content == first.content
        assert await database.rows("SELECT score FROM current_score") == []
        fresh = (await scores.update(session)).json()
        assert (fresh["score"], fresh["scoreIncrease"]) == (10, 10)
    assert await database.rows("SELECT score, version FROM user_score") == [(10, first_version(2) + 1)]
    assert await database.rows("SELECT season, score FROM season_score") == [(1, 20)]


async def test_only_the_board_that_is_reset_begins_anew(
    database: Database, database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """One action counts for several boards, of which one was reset; Best and Latest begin anew, too."""
    session = open_session("ann")
    async with running(make_settings(database_settings, redis_settings, nats_settings)) as scores:
        for points in (70, 50):
            await scores.update(session, "lap", data={"points": points})
        await database.boards.reset("best")
        await scores.update(session, "lap", data={"points": 40})
    found = await database.rows("SELECT board, score FROM current_score ORDER BY board")
    assert found == [("best", 40), ("default", 160), ("latest", 40)]
    assert await database.rows("SELECT board, season, score FROM season_score") == [("best", 1, 70)]


async def test_a_reset_waits_for_the_update_under_way(database: Database) -> None:
    """The gate opens for a reset when the last update is committed, and holds up those that come behind it."""
    async with database.engine.begin() as update:
        await update.execute(text("SELECT pg_advisory_xact_lock_shared(:gate)"), {"gate": GATE})
        reset = asyncio.create_task(database.boards.reset("default"))
        while not await database.one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            await asyncio.sleep(0.01)
        assert await database.rows("SELECT season FROM season") == []
    assert (await reset).season == 2


async def test_a_reset_gives_way_to_an_update_that_hangs(database: Database) -> None:
    """Where the gate stays taken for too long nothing is changed, and the same reset may come again."""
    async with database.engine.begin() as update:
        await update.execute(text("SELECT pg_advisory_xact_lock_shared(:gate)"), {"gate": GATE})
        with pytest.raises(StoreUnavailable):
            await database.boards.reset("default")
    assert await database.rows("SELECT * FROM board_state") == []
    assert (await database.boards.reset("default")).season == 2


async def test_the_archive_takes_each_score_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps, from any place, past scores that are locked just now, and over a reset in the middle."""
    monkeypatch.setattr(archive, "ROWS_LOOKED_AT", 3)
    await database.add_scores(*((f"u{number}", number) for number in range(10)))
    await database.boards.reset("default")
    moved, place = await database.archive.step("default")
    assert moved == 3
    await database.run(
        """
        INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated, total_actions)
        VALUES ('default', 'u0', 'u0', 7, :version, now(), now(), 1)
        """,
        version=first_version(2) + 1,
    )
    await database.boards.reset("default")
    async with database.engine.begin() as update:
        await update.execute(text("SELECT 1 FROM user_score WHERE user_id = 'u5' FOR UPDATE"))
        for _ in range(12):
            _, place = await database.archive.step("default", place)
        assert await database.rows("SELECT user_id FROM user_score") == [("u5",)]
        assert await database.rows("SELECT players FROM season") == [(None,), (None,)]
    while place is not None:
        _, place = await database.archive.step("default", place)
    assert await database.rows("SELECT season, user_id, score FROM season_score ORDER BY 1, 2") == [
        *((1, f"u{number}", number) for number in range(10)),
        (2, "u0", 7),
    ]
    assert await database.rows("SELECT season, players FROM season ORDER BY 1") == [(1, 10), (2, 1)]
    assert await database.rows("SELECT * FROM user_score") == []


async def test_seasons_beyond_those_kept_are_deleted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps, oldest first; with none kept all are."""
    monkeypatch.setattr(archive, "ROWS_DELETED", 2)
    for season in range(1, 5):
        await database.run(
            "INSERT INTO season (board, season, ended_at) VALUES ('default', :season, now())", season=season
        )
        for user in ("a", "b", "c"):
            await database.run(
                """
                INSERT INTO season_score (board, season, user_id, username, score, reached_at, total_actions, hidden)
                VALUES ('default', :season, :user, '', 1, now(), 1, false)
                """,
                season=season,
                user=user,
            )
    await database.run("INSERT INTO board_state (board, season) VALUES ('default', 5)")
    await database.archive_all()
    for retain, left in ((9, [1, 2, 3, 4]), (2, [3, 4]), (0, [])):
        more, steps = True, 0
        while more:
            deleted, more = await database.archive.thin_out("default", retain)
            assert deleted <= 2
            steps += 1
        assert [season for (season,) in await database.rows("SELECT season FROM season ORDER BY 1")] == left
        kept = await database.rows("SELECT DISTINCT season FROM season_score ORDER BY 1")
        assert [season for (season,) in kept] == left
