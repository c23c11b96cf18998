"""Whether the schedules of boards ever come: the API server sees their form only. Pure."""

from __future__ import annotations

from podium.common.schedule import checked
from podium_operator.spec import Board, ScoreboardSpec


def problem(spec: ScoreboardSpec) -> str:
    """A sentence for each schedule that the analytics service could not keep; empty if there is none."""
    return "; ".join(filter(None, (_problem(board) for board in spec.boards)))


def _problem(board: Board) -> str:
    if board.reset is None:
        return ""
    try:
        checked(board.reset)  # the very check of the service, which would not start
    except ValueError as error:
        return f"boards[{board.name}].reset {error}; correct or remove it"
    return ""
