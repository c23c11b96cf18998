"""How fast a client may speak: a token bucket kept as one number (generic cell rate algorithm, ITU-T I.371). Pure.

The number is ``due``: when the bucket will be full again, in monotonic seconds. One that lies in the past is a full
bucket, so who never speaks needs none.
"""

import math
from typing import Final

FRAMES_PER_SECOND: Final = 10
BURST: Final = 20
"""Frames that may come at once."""

FLOODED: Final = math.inf
"""``due`` of a client that is not listened to any more."""

_SECONDS_PER_FRAME: Final = 1 / FRAMES_PER_SECOND
_GRACE: Final = _SECONDS_PER_FRAME / 2
"""Above what sums of seconds lose by rounding."""

_FAST: Final = BURST * _SECONDS_PER_FRAME + _GRACE
_FLOOD: Final = 2 * BURST * _SECONDS_PER_FRAME + _GRACE


def after_frame(due: float, now: float) -> float:
    """``due`` after one more frame."""
    return max(due, now) + _SECONDS_PER_FRAME


def is_too_fast(due: float, now: float) -> bool:
    """Whether a message that ends with this frame is refused: the bucket is overdrawn."""
    return due - now > _FAST


def is_flood(due: float, now: float) -> bool:
    """Whether the client went on all the same: overdrawn by as much again."""
    return due - now > _FLOOD
