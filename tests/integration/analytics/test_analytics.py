"""Counting, windows, reports, dead letters and resets on real stores."""

import asyncio
import csv
import io
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.analytics.store import AnalyticsStore
from podium.common.bus import DLQ_STREAM, SCORE_UPDATED, Bus
from podium.common.settings import DatabaseSettings
from podium.schema.maintenance import maintain
from tests.integration.analytics.conftest import Analytics, StartAnalytics, entry, publish
from tests.support.processes import scratch_directory
from tests.support.replica import Replica
from tests.support.stores import Stores


async def _one(engine: AsyncEngine, statement: str, **values: Any) -> Any:
    async with engine.connect() as connection:
        return (await connection.execute(text(statement), values)).one()


async def _settled(bus: Bus) -> None:
    """Wait until the consumer has acknowledged everything."""
    last = await bus.last_sequence(SCORE_UPDATED)
    async with asyncio.timeout(20):
        while await bus.acknowledged("analytics") < last:
            await asyncio.sleep(0.02)


async def _scores(engine: AsyncEngine, *rows: tuple[str, int]) -> None:
    """Users with scores on the board ``default``, in this order of time."""
    async with engine.begin() as connection:
        for user, score in rows:
            await connection.execute(
                text(
                    """
                    INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated,
                      total_actions) VALUES ('default', :user, :user, :score, 5, clock_timestamp(), now(), 2)
                    """
                ),
                {"user": user, "score": score},
            )


async def test_each_event_counts_once_on_two_pods(
    start_analytics: StartAnalytics, bus: Bus, engine: AsyncEngine
) -> None:
    """Two pods share the consumer; an event sent twice, even beyond JetStream's deduplication, counts once."""
    await start_analytics()
    await start_analytics()
    for number in range(20):
        event = await publish(bus, entry(f"u{number % 4}"), entry("u0"))
        await publish(bus, entry(f"u{number % 4}"), entry("u0"), event_id=event, message_id=str(uuid.uuid4()))
    await _settled(bus)
    sums = await _one(engine, "SELECT sum(updates), sum(points) FROM scoreboard_analytics")
    assert tuple(map(int, sums)) == (40, 400)
    per_day = "SELECT count(*) FROM analytics_user WHERE span_seconds = 86400"
    assert (await _one(engine, per_day))[0] in {4, 8}  # 8 where the day changed meanwhile


async def test_updates_fall_into_their_windows(analytics: Analytics, bus: Bus) -> None:
    """A window counts updates, points and distinct users by the time of acceptance; hours and days sum them."""
    base = datetime.now(UTC).replace(minute=10, second=0, microsecond=0) - timedelta(hours=2)
    at = [base, base + timedelta(seconds=59), base + timedelta(seconds=60)]
    await publish(bus, entry("a", 1, at=at[0]), entry("a", 2, at=at[1]), entry("b", 4, at=at[2]))
    await _settled(bus)
    params = {"from": (base - timedelta(minutes=10)).isoformat(), "to": (base + timedelta(minutes=50)).isoformat()}
    points = (await analytics.get("/api/v1/analytics/timeseries", **params)).json()["points"]
    assert [(point["updates"], point["points"], point["activeUsers"]) for point in points] == [(2, 3, 1), (1, 4, 1)]
    hours = (await analytics.get("/api/v1/analytics/timeseries", granularity="hour", **params)).json()["points"]
    assert [(point["updates"], point["points"], point["activeUsers"]) for point in hours] == [(3, 7, 2)]


async def test_an_act_of_an_admin_counts_nothing(analytics: Analytics, bus: Bus, engine: AsyncEngine) -> None:
    """An entry without an action is no update."""
    await publish(bus, {**entry("a"), "actionId": None, "acceptedAt": None, "scoreIncrease": None})
    await _settled(bus)
    assert (await _one(engine, "SELECT coalesce(sum(updates), 0) FROM scoreboard_analytics"))[0] == 0


async def test_every_interval_gets_one_closed_row(
    start_analytics: StartAnalytics, engine: AsyncEngine, bus: Bus
) -> None:
    """Windows are closed once, also by two pods and without any update, with the state and the change of the top."""
    await _scores(engine, ("a", 50), ("b", 150), ("c", 10))
    await start_analytics(interval=1)
    await start_analytics(interval=1)
    closed = "SELECT count(*) FROM scoreboard_analytics WHERE closed_at IS NOT NULL"
    async with asyncio.timeout(20):
        while (await _one(engine, closed))[0] < 2:
            await asyncio.sleep(0.05)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE user_score SET score = 900 WHERE user_id = 'c'"))
    async with asyncio.timeout(20):
        while (await _one(engine, "SELECT coalesce(max(turnover), 0) FROM scoreboard_analytics WHERE top_score = 900"))[
            0
        ] < 1:
            await asyncio.sleep(0.05)
    row = await _one(
        engine,
        "SELECT total_users, top_score, mean_score, top FROM scoreboard_analytics WHERE top_score = 150 LIMIT 1",
    )
    assert tuple(row[:3]) == (3, 150, 70)
    assert [one["userId"] for one in row[3]] == ["b", "a"]


async def test_the_summary_shows_the_board(analytics: Analytics, bus: Bus, engine: AsyncEngine) -> None:
    """Users, scores, tiers and activity at a glance."""
    await _scores(engine, ("a", 50), ("b", 150))
    await publish(bus, entry("a"), entry("b"), entry("b"))
    await _settled(bus)
    summary = (await analytics.get("/api/v1/analytics/summary")).json()
    assert (summary["totalUsers"], summary["topScore"], summary["meanScore"]) == (2, 150, 100)
    assert [(tier["name"], tier["users"]) for tier in summary["tiers"]] == [("bronze", 1), ("silver", 1)]
    assert [(one["window"], one["updates"], one["activeUsers"]) for one in summary["activity"]] == [
        ("5m", 3, 2), ("1h", 3, 2), ("24h", 3, 2)
    ]  # fmt: skip


async def test_the_distribution_counts_every_user_once(analytics: Analytics, engine: AsyncEngine) -> None:
    """Ranges without gaps or overlaps, quantiles, tiers."""
    await _scores(engine, *((f"u{score:03}", score) for score in range(0, 200, 2)))
    found = (await analytics.get("/api/v1/analytics/distribution", buckets=7)).json()
    assert sum(bucket["users"] for bucket in found["buckets"]) == 100
    assert found["buckets"][0]["fromScore"] == 0
    assert found["buckets"][-1]["toScore"] == 198
    assert found["quantiles"] == {"p50": 98, "p90": 178, "p99": 196}


async def test_reports_come_as_json_and_csv(analytics: Analytics, engine: AsyncEngine) -> None:
    """The same table in both forms; nothing that a spreadsheet would run."""
    await _scores(engine, ("=1+1", 50), ("b", 150))
    table = (await analytics.get("/api/v1/analytics/reports/players")).json()
    assert [row["userId"] for row in table["rows"]] == ["b", "=1+1"]
    answer = await analytics.get("/api/v1/analytics/reports/players", format="csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0]) == table["columns"]
    assert [row["userId"] for row in rows] == ["b", "'=1+1"]
    for name in (one["name"] for one in (await analytics.get("/api/v1/analytics/reports")).json()["reports"]):
        for form in ("json", "csv"):
            assert (await analytics.get(f"/api/v1/analytics/reports/{name}", format=form)).status_code == 200


@pytest.mark.parametrize(
    ("path", "params", "status", "slug"),
    [
        ("summary", {"board": "none"}, 404, "board-unknown"),
        ("timeseries", {"granularity": "week"}, 400, "malformed-request"),
        ("timeseries", {"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, 400, "malformed-request"),
        ("timeseries", {"from": "yesterday"}, 400, "malformed-request"),
        ("distribution", {"buckets": 0}, 400, "malformed-request"),
        ("reports/none", {}, 404, "report-unknown"),
    ],
)
async def test_bad_queries(analytics: Analytics, path: str, params: dict[str, Any], status: int, slug: str) -> None:
    """Bad values are problem documents."""
    answer = await analytics.get(f"/api/v1/analytics/{path}", **params)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, slug)


async def test_scopes_are_apart(analytics: Analytics) -> None:
    """Reading needs analytics:read, administration admin; neither gives the other."""
    assert (await analytics.http.get("/api/v1/analytics/summary")).status_code == 401
    assert (await analytics.get("/api/v1/analytics/summary", scope="admin")).status_code == 403
    assert (await analytics.get("/api/v1/admin/dead-letters", scope="analytics:read")).status_code == 403
    assert (await analytics.post("/api/v1/admin/boards/default/reset", scope="analytics:read")).status_code == 403


async def test_an_outage_of_the_database_loses_nothing(
    analytics: Analytics, bus: Bus, engine: AsyncEngine, stores: Stores
) -> None:
    """Events that come while PostgreSQL is away are counted when it is back, and none is dead-lettered."""
    stores.postgres.process.stop()
    try:
        for number in range(5):
            await publish(bus, entry(f"u{number}"))
        async with asyncio.timeout(10):
            while (ready := await analytics.http.get("/healthz/ready")).status_code == 200:
                await asyncio.sleep(0.05)
        assert ready.json()["missing"] == ["postgres"]
    finally:
        stores.postgres.process.restart()
    await _settled(bus)
    await engine.dispose()
    assert (await _one(engine, "SELECT sum(updates) FROM scoreboard_analytics"))[0] == 5
    assert (await bus.jetstream.stream_info(DLQ_STREAM)).state.messages == 0


async def test_business_metrics_are_served(analytics: Analytics, engine: AsyncEngine, bus: Bus) -> None:
    """Updates, active users, distribution, dead letters, lag and outbox age are at /metrics."""
    await publish(bus, entry("a"))
    await _settled(bus)
    text_ = (await analytics.http.get("/metrics")).text
    for name in (
        "podium_analytics_updates_total", "podium_active_users", "podium_scores_at_most", "podium_dead_letters",
        "podium_consumer_lag", "podium_outbox_oldest_seconds", "podium_users", "podium_action_log_ahead_seconds",
    ):  # fmt: skip
        assert f"\n# TYPE {name.removesuffix('_total')}" in text_ or f"# TYPE {name}" in text_


async def test_the_log_has_partitions_for_as_long_as_its_maintenance_makes_them(
    engine: AsyncEngine, database_settings: DatabaseSettings
) -> None:
    """Two widths ahead, each a sixth of the retention."""
    store = AnalyticsStore(engine, 60)
    await asyncio.to_thread(maintain, database_settings, timedelta(days=90))
    assert timedelta(days=30).total_seconds() <= await store.log_ahead() < timedelta(days=46).total_seconds()


async def test_standbys_that_follow_are_counted(analytics: Analytics, stores: Stores) -> None:
    """By the services' own user, who is no superuser; gone ones count no more."""

    async def shown(number: int) -> None:
        async with asyncio.timeout(40):
            while f"podium_postgres_standbys {number}.0" not in (await analytics.http.get("/metrics")).text:
                await asyncio.sleep(0.1)

    await shown(0)
    with scratch_directory() as directory:
        replica = Replica(stores.postgres, directory)
        await asyncio.to_thread(replica.start)
        try:
            await shown(1)
        finally:
            replica.stop()
        await shown(0)
