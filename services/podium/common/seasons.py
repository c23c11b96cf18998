"""Seasons: how the version of a score says which season it belongs to. Pure.

A board's season is a number in ``board_state``. The version of a row of ``user_score`` carries, above its lowest 32
bits, the number of seasons before its own; so a version only ever grows, also from one season to the next, and whoever
sees a score (a projector, a late event, a query) knows its season without asking. A row whose season is not the
board's counts as absent, which makes a reset one small write however many users there are (docs/adr/0007).
"""

from typing import Final

SEASON_BITS: Final = 32
"""Bits below the season in a version: 4 thousand million changes of one score in one season. Two million seasons fit
below 2**53, up to where Lua and JSON clients read integers exactly: one a minute for four years, one a day for ever."""

GATE: Final = 0x706F6469756D01
"""Advisory lock of PostgreSQL: shared by every score update's transaction, taken alone by a reset, for milliseconds."""


def first_version(season: int) -> int:
    """The version below all versions of ``season`` and above all of the seasons before it."""
    return (season - 1) << SEASON_BITS


def season_of(version: int) -> int:
    """The season, from 1, that a score with this version belongs to."""
    return (version >> SEASON_BITS) + 1
