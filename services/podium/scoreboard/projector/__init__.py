"""The projector: score events from JetStream into the rankings in Redis, and from there to the watchers' pods.

Any number of projectors run at once. They share one durable consumer, and what they write is absolute and versioned, so
neither order nor repetition matters.
"""
