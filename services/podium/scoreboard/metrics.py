"""Metrics of the scoreboard service and the projector."""

from prometheus_client import Counter, Gauge, Histogram

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

CONNECTIONS = Gauge("podium_scoreboard_connections", "Open connections of watchers", ["kind", "agent"])
CONNECTIONS_OPENED = Counter("podium_scoreboard_connections_opened_total", "Connections of watchers let in", ["kind"])
CONNECTIONS_REFUSED = Counter("podium_scoreboard_connections_refused_total", "Connections refused", ["reason"])
DELIVERIES = Counter("podium_scoreboard_deliveries_total", "Snapshots handed to connections")
CONFLATED = Counter("podium_scoreboard_conflated_total", "Snapshots that gave way to a newer one within a tick")
SKIPPED = Counter("podium_scoreboard_skipped_total", "Snapshots that a slow connection skipped or got later")
CLOSED = Counter("podium_scoreboard_closed_total", "Connections this service closed, by close code", ["code"])
BROADCAST_SECONDS = Histogram(
    "podium_scoreboard_broadcast_duration_seconds", "One snapshot to all its watchers", buckets=_LATENCY
)
COMMIT_TO_PUSH_SECONDS = Histogram(
    "podium_scoreboard_commit_to_push_seconds",
    "From the decision of the newest update in a top until it was pushed (clocks of two machines)",
    buckets=_LATENCY,
)
CACHE_HITS = Counter("podium_scoreboard_cache_hits_total", "Reads answered from this process's memory")
CACHE_MISSES = Counter("podium_scoreboard_cache_misses_total", "Reads for which Redis was asked")
CACHE_STALE = Counter(
    "podium_scoreboard_cache_stale_total", "Reads answered with the last good answer, because Redis had none"
)
FEED_STALE = Counter("podium_scoreboard_feed_missed_total", "Snapshots found by the re-read that no message brought")
FEED_CONNECTED = Gauge("podium_scoreboard_feed_connected", "1 while NATS is connected")

PROJECTED = Counter("podium_projector_updates_total", "Updates applied to the rankings (repeats included)")
PROJECTOR_BATCH = Histogram(
    "podium_projector_batch_updates", "Updates in one batch", buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500)
)
PROJECTOR_BATCH_SECONDS = Histogram("podium_projector_batch_duration_seconds", "One batch to Redis", buckets=_LATENCY)
PROJECTOR_LAG_SECONDS = Histogram(
    "podium_projector_lag_seconds", "From the decision of an update until it was in the ranking", buckets=_LATENCY
)
PROJECTOR_PENDING = Gauge("podium_projector_pending_messages", "Messages of the event stream not yet delivered")
PROJECTOR_DEAD_LETTERS = Counter("podium_projector_dead_letters_total", "Messages that failed by themselves")
PROJECTOR_OUTAGES = Counter("podium_projector_outages_total", "Times the projector paused because a store was away")
PUBLISHED = Counter("podium_projector_published_total", "Snapshots published")
PURGES = Counter(
    "podium_cdn_purges_total",
    "Calls that purge a board from the CDN, by outcome: purged, failed or unreachable (repeated), refused, no-token",
    ["outcome"],
)
PURGE_SECONDS = Histogram(
    "podium_cdn_purge_duration_seconds",
    "From the publication of a top until the CDN confirmed that the board is purged",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
)
REBUILDS = Counter("podium_projector_rebuilds_total", "Rankings built anew from PostgreSQL", ["reason"])
REBUILD_SECONDS = Histogram(
    "podium_projector_rebuild_duration_seconds", "One rebuild", buckets=(0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
)
DRIFT_USERS = Gauge(
    "podium_ranking_drift_users",
    "Users whose ranking differed from PostgreSQL beyond updates on their way, as the last full comparison found",
    ["board"],
)
DRIFT_CHECKED = Gauge(
    "podium_ranking_drift_checked_timestamp_seconds", "Unix time of the last full comparison or rebuild", ["board"]
)
DRIFTED = Counter(
    "podium_ranking_drifted_users_total", "Users that comparisons of this process found to differ", ["board"]
)
