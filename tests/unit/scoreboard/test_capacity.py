"""How many connections a process can hold."""

import resource

import pytest

from podium.scoreboard.capacity import OTHER_FILES, connections_at_most, raise_file_limit


@pytest.mark.parametrize(
    ("files", "most"),
    [
        (resource.RLIM_INFINITY, 20_000),
        (1_048_576, 20_000),
        (20_000, 20_000 - OTHER_FILES),
        (1024, 1024 - OTHER_FILES),
        (256, 1),
    ],
)
def test_files_bound_connections(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    """As many as wanted, where there are files for them and for all else."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert connections_at_most(20_000) == most


def test_the_limit_is_raised_to_what_the_system_allows() -> None:
    """Not beyond: that would need rights."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (600, before[1]))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
