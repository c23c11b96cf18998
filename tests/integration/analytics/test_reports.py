"""Reports that are read in one look through a board."""

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.analytics.reports import ReportStore
from podium.common.rules import Tier

SCORES = (-5, 0, 9, 10, 10, 11, 99, 100, 101, 10**15)
TIERS = [Tier(name="gold", min_score=100), Tier(name="bronze", min_score=0), Tier(name="silver", min_score=10)]


@pytest.fixture
async def reports(engine: AsyncEngine) -> ReportStore:
    """On a board with a user for each of ``SCORES``, and a hidden one."""
    insert = text(
        """
        INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated, total_actions,
          hidden) VALUES ('default', :user, :user, :score, 1, now(), now(), 1, :hidden)
        """
    )
    async with engine.begin() as connection:
        for number, score in enumerate((*SCORES, 50)):
            values = {"user": f"u{number}", "score": score, "hidden": number == len(SCORES)}
            await connection.execute(insert, values)
    return ReportStore(engine, TIERS, 60)


async def test_scores_at_most_counts_as_comparing_does(reports: ReportStore) -> None:
    """Cumulative, with each bound included, whatever their order."""
    bounds = (100, 0, -6, 10, 10**15)
    expected = {bound: sum(score <= bound for score in SCORES) for bound in bounds}
    assert await reports.scores_at_most("default", bounds) == expected
    assert await reports.scores_at_most("none", bounds) == dict.fromkeys(bounds, 0)
    assert await reports.scores_at_most("default", ()) == {}


async def test_each_user_is_in_the_highest_tier_that_they_reached(reports: ReportStore) -> None:
    """From the lowest tier up; below the first one there is none."""
    users = {row["name"]: row["users"] for row in await reports.tiers("default")}
    assert list(users.items()) == [("bronze", 2), ("silver", 4), ("gold", 3)]
    assert await ReportStore(reports._engine, [], 60).tiers("default") == []
