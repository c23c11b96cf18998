"""The cache: entries are whole or absent."""

from pathlib import Path

import pytest

from podium_dev import cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PODIUM_CACHE", str(tmp_path))


def test_an_entry_is_built_once() -> None:
    """The second caller gets what the first built."""
    built: list[Path] = []

    def build(target: Path) -> None:
        built.append(target)
        (target / "file").write_text("x")

    assert cache.entry("tools/a-1", build) == cache.entry("tools/a-1", build)
    assert len(built) == 1


def test_a_failed_build_leaves_no_entry(tmp_path: Path) -> None:
    """What was half written is not taken for the entry, and the next build clears it."""

    def half(target: Path) -> None:
        (target / "file").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.entry("tools/a-1", half)
    assert not (tmp_path / "tools/a-1").exists()

    def whole(target: Path) -> None:
        (target / "file").write_text("whole")

    entry = cache.entry("tools/a-1", whole)
    assert (entry / "file").read_text() == "whole"
    assert not list((tmp_path / "tools").glob("*.tmp-*"))
