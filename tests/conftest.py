"""What all tests share: markers, and the order that puts cheap tests first."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.instance import Instance, running_instance

_ORDER = ("unit", "integration", "operator", "e2e", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the stages in order, whatever order the file system gives."""

    def stage(item: pytest.Item) -> int:
        parts = Path(str(item.path)).parts
        return next((index for index, name in enumerate(_ORDER) if name in parts), len(_ORDER))

    items.sort(key=stage)


@pytest.fixture(scope="session")
def instance() -> Iterator[Instance]:
    """A running Podium on a real cluster, shared by the operator's, the end-to-end and the browser tests."""
    with running_instance() as running:
        yield running
