"""Prometheus metrics of the scores service."""

from prometheus_client import Counter, Gauge, Histogram

UPDATES = Counter("podium_score_updates_total", "Score updates by result: accepted, replayed, or the slug", ["result"])
ACTIONS = Counter("podium_score_actions_total", "Accepted actions by type", ["action"])
BATCH_SIZE = Histogram(
    "podium_scores_batch_size", "Updates in one commit", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 192, 256)
)
COMMIT_SECONDS = Histogram(
    "podium_scores_commit_seconds",
    "Duration of one batch's transaction in seconds",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
QUEUE = Gauge("podium_scores_queue_length", "Updates that wait for a batch")
SINGLES = Counter("podium_scores_batches_split_total", "Batches retried one update at a time")
NONCES_UNCHECKED = Counter(
    "podium_scores_nonces_unchecked_total", "Updates that went on while the nonce store was away"
)
OUTBOX_PUBLISHED = Counter("podium_outbox_published_total", "Events sent to JetStream", ["by"])
OUTBOX_AGE = Gauge("podium_outbox_oldest_age_seconds", "Age of the oldest event not yet sent, in seconds")
