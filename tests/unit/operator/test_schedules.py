"""Schedules of boards that have the right form, but never come."""

from __future__ import annotations

import re

import pytest

from podium_operator import schedules
from podium_operator.spec import ScoreboardSpec
from podium_operator.spec_base import CRON_PATTERN


def _problem(*resets: str | None) -> str:
    boards = [{"name": f"b{number}", "reset": reset} for number, reset in enumerate(resets)]
    return schedules.problem(ScoreboardSpec.model_validate({"boards": boards}))


@pytest.mark.parametrize(
    "reset", [None, "@daily", "@weekly", "@monthly", "0 0 * * *", "*/15 8-18 1,15 JAN-JUN MON-FRI", "0 0 29 2 *"]
)
def test_schedules_that_come_are_no_problem(reset: str | None) -> None:
    """Neither is a board without one; the API server takes them as well."""
    assert _problem(reset) == ""
    assert reset is None or re.fullmatch(CRON_PATTERN, reset)


@pytest.mark.parametrize("reset", ["60 * * * *", "0 24 * * *", "0 0 30 2 *", "0 0 * * FOO", "5/0 * * * *"])
def test_schedules_that_never_come_are_said(reset: str) -> None:
    """Their form passes the API server, so the operator names the board."""
    assert re.fullmatch(CRON_PATTERN, reset)
    assert _problem("@daily", reset).startswith("boards[b1].reset ")
    assert _problem(reset, reset).count("correct or remove it") == 2


@pytest.mark.parametrize(
    "reset", ["", "daily", "* * * *", "* * * * * *", "H * * * *", "R R * * *", "0 0 L * *", "@often"]
)
def test_other_forms_are_refused_by_the_api_server(reset: str) -> None:
    """Five fields without extensions, or the name of a period."""
    assert not re.fullmatch(CRON_PATTERN, reset)
    assert _problem("@daily", reset or "x")
