"""A small client of Podium: opens sessions, signs score updates, reads and watches the ranking."""

from podium.client.session import PodiumError, Session, open_session

__all__ = ["PodiumError", "Session", "open_session"]
