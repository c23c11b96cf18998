"""Times of schedules, in UTC."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from podium.common.schedule import next_time

AT = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
"""A Monday."""


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("@hourly", "2026-11-23T14:00"),
        ("@daily", "2026-11-24T00:00"),
        ("@weekly", "2026-11-29T00:00"),
        ("@monthly", "2026-12-01T00:00"),
        ("@yearly", "2027-01-01T00:00"),
        ("0 0 * * MON", "2026-11-30T00:00"),
        ("0 13 * * *", "2026-11-24T13:00"),
        ("1 13 * * *", "2026-11-23T13:01"),
        ("0 0 29 2 *", "2028-02-29T00:00"),
        ("0 0 1 * FRI", "2026-11-27T00:00"),
    ],
)
def test_the_next_time_lies_after(expression: str, expected: str) -> None:
    """Strictly; of day and weekday either is enough, as in cron."""
    assert next_time(expression, AT).isoformat().startswith(expected)
    assert next_time(expression, AT).utcoffset() == timedelta()


def test_times_are_in_utc() -> None:
    """Whatever zone the time before is given in."""
    assert next_time("@daily", AT.astimezone(timezone(timedelta(hours=-11)))).isoformat() == "2026-11-24T00:00:00+00:00"
