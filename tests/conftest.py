"""What all tests share: markers, and the order that puts cheap tests first."""

from collections.abc import Iterator

import pytest

from tests.support.instance import Instance, running_instance

_STAGES = ("unit", "integration", "operator", "e2e", "browser")
_LAST = ("test_resource.py", "test_faults.py", "test_expiry.py")
"""End-to-end tests that change or break the shared instance, or need it to have run for a while."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the stages in order, whatever order the file system gives."""

    def place(item: pytest.Item) -> tuple[int, int]:
        parts = item.path.parts
        stage = next((index for index, name in enumerate(_STAGES) if name in parts), len(_STAGES))
        return stage, _LAST.index(item.path.name) + 1 if item.path.name in _LAST else 0

    items.sort(key=place)


@pytest.fixture(scope="session")
def instance() -> Iterator[Instance]:
    """A running Podium on a real cluster, shared by the operator's, the end-to-end and the browser tests."""
    with running_instance() as running:
        yield running
