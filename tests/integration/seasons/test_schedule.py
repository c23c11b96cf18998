"""Resets by schedule: once for each due time, whoever asks and however late."""

import asyncio
from datetime import UTC, datetime, timedelta

from tests.integration.seasons.conftest import Database

HOURLY = {"default": "@hourly"}


async def _pass_due_time(database: Database, by: timedelta) -> None:
    """Let the stored time be past."""
    await database.run("UPDATE board_state SET due_at = clock_timestamp() - CAST(:by AS interval)", by=by)


async def test_a_new_schedule_waits_for_its_first_time(database: Database) -> None:
    """Nothing is reset before; the next time is shown with the board."""
    assert await database.boards.reset_due(HOURLY) == []
    (season,) = await database.boards.seasons(["default"])
    assert (season.season, season.started_at) == (1, None)
    assert season.due_at is not None
    assert timedelta() < season.due_at - datetime.now(UTC) <= timedelta(hours=1)
    assert (season.due_at.minute, season.due_at.second) == (0, 0)


async def test_a_due_time_resets_once_on_many_pods(database: Database) -> None:
    """All pods ask at once and again; one of them resets, and the next time lies ahead."""
    await database.boards.reset_due(HOURLY)
    for number in range(3):
        await _pass_due_time(database, timedelta(seconds=1))
        begun = await asyncio.gather(*(database.boards.reset_due(HOURLY) for _ in range(8)))
        assert [season.season for seasons in begun for season in seasons] == [number + 2]
        assert await database.boards.reset_due(HOURLY) == []
    assert await database.rows("SELECT season FROM season ORDER BY 1") == [(1,), (2,), (3,)]


async def test_missed_times_are_made_up_for_once(database: Database) -> None:
    """After a week away a board that is reset every hour is reset one time."""
    await database.boards.reset_due(HOURLY)
    await _pass_due_time(database, timedelta(days=7))
    assert len(await database.boards.reset_due(HOURLY)) == 1
    assert await database.boards.reset_due(HOURLY) == []


async def test_a_changed_schedule_makes_up_for_nothing(database: Database) -> None:
    """A schedule that was changed or taken away does not reset for a time of the old one."""
    await database.boards.reset_due(HOURLY)
    await _pass_due_time(database, timedelta(minutes=1))
    assert await database.boards.reset_due({"default": "@weekly"}) == []
    await database.boards.reset_due(HOURLY)
    await _pass_due_time(database, timedelta(minutes=1))
    assert await database.boards.reset_due({"default": None}) == []
    assert (await database.boards.seasons(["default"]))[0].due_at is None
    assert await database.boards.reset_due(HOURLY) == []


async def test_each_board_has_its_own_schedule(database: Database) -> None:
    """Only the board that is due is reset."""
    schedules = {"daily": "@daily", "hourly": "@hourly", "never": None}
    await database.boards.reset_due(schedules)
    await database.run("UPDATE board_state SET due_at = now() WHERE board = 'daily'")
    assert [season.board for season in await database.boards.reset_due(schedules)] == ["daily"]
    assert await database.rows("SELECT board FROM board_state ORDER BY 1") == [("daily",), ("hourly",)]
