"""Versions that carry their season."""

from hypothesis import given
from hypothesis import strategies as st

from podium.common.seasons import SEASON_BITS, first_version, season_of


@given(st.integers(1, 2**21 - 1), st.integers(1, 2**SEASON_BITS - 1))
def test_a_version_tells_its_season(season: int, number: int) -> None:
    """All versions of a season lie above those of the seasons before and below those after; all fit a double."""
    version = first_version(season) + number
    assert season_of(version) == season
    assert first_version(season) < version < first_version(season + 1) <= 2**53


def test_the_first_season_counts_from_one() -> None:
    """As versions did before there were seasons."""
    assert first_version(1) == 0
