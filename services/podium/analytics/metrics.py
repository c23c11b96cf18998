"""Business metrics. Gauges are read from the stores by every pod, so take the maximum over pods, never the sum."""

from prometheus_client import Counter, Gauge

UPDATES = Counter(
    "podium_analytics_updates_total", "Accepted score updates that analytics has counted", ["board", "action"]
)
POINTS = Counter("podium_score_points_total", "Points gained by counted updates", ["board"])
EVENTS = Counter("podium_analytics_events_total", "Events consumed, by fate", ["fate"])
WINDOWS_CLOSED = Counter("podium_analytics_windows_closed_total", "ScoreboardAnalytics rows closed", ["board"])
ACTIVE_USERS = Gauge("podium_active_users", "Distinct users with an accepted update in the last 5 minutes", ["board"])
USERS = Gauge("podium_users", "Users in the ranking", ["board"])
TOP_SCORE = Gauge("podium_top_score", "Highest score in the ranking", ["board"])
SCORES_BELOW = Gauge("podium_scores_at_most", "Users whose score is at most le (cumulative)", ["board", "le"])
TIER_USERS = Gauge("podium_tier_users", "Users in a tier", ["board", "tier"])
DEAD_LETTERS = Gauge("podium_dead_letters", "Messages in the dead-letter stream, by who failed", ["consumer"])
CONSUMER_LAG = Gauge("podium_consumer_lag", "Messages that a durable consumer has not acknowledged", ["consumer"])
OUTBOX_AGE = Gauge("podium_outbox_oldest_seconds", "Age of the oldest event that JetStream has not acknowledged")
STANDBYS = Gauge("podium_postgres_standbys", "Standbys that follow the PostgreSQL primary")
LOG_AHEAD = Gauge("podium_action_log_ahead_seconds", "Time from now for which the log of actions has partitions")
DEAD_LETTER_ACTS = Counter("podium_dead_letter_acts_total", "Dead letters replayed or discarded", ["act"])
BOARD_RESETS = Counter("podium_board_resets_total", "Seasons begun, by an admin or the schedule", ["board", "cause"])
ARCHIVED = Counter("podium_season_scores_archived_total", "Scores moved to the archive of ended seasons", ["board"])
FORGOTTEN = Counter("podium_season_scores_deleted_total", "Scores deleted with seasons beyond those kept", ["board"])
