"""Schedules as cron expressions of five fields, in UTC. Pure."""

import re
from datetime import UTC, datetime
from typing import Final

from croniter import CroniterError, croniter

PATTERN: Final = re.compile(
    r"@(hourly|daily|weekly|monthly|yearly)|[0-9*,/-]+ [0-9*,/-]+ [0-9*,/-]+( [0-9A-Za-z*,/-]+){2}"
)
"""Minute, hour, day of the month, month, day of the week (names allowed in the last two), or a name of a period."""

HORIZON_YEARS: Final = 10
"""How far the first time may lie ahead; 29 February comes within eight years."""


def next_time(expression: str, after: datetime) -> datetime:
    """The first time of ``expression`` later than ``after``. Raises ValueError for one that has none."""
    try:
        found: datetime = croniter(expression, after.astimezone(UTC), max_years_between_matches=HORIZON_YEARS).get_next(
            datetime
        )
    except (CroniterError, KeyError) as error:
        raise ValueError(f"{expression!r} never comes: {error}") from error
    return found


def checked(expression: str) -> str:
    """``expression``, if it is a schedule. Raises ValueError."""
    if not PATTERN.fullmatch(expression):
        raise ValueError(f"{expression!r} is no cron expression of five fields, nor one of @hourly … @yearly")
    next_time(expression, datetime.now(UTC))
    return expression
