"""What all tests share: markers, and the order that puts cheap tests first."""

from pathlib import Path

import pytest

_ORDER = ("unit", "integration", "operator", "e2e", "browser")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the stages in order, whatever order the file system gives."""

    def stage(item: pytest.Item) -> int:
        parts = Path(str(item.path)).parts
        return next((index for index, name in enumerate(_ORDER) if name in parts), len(_ORDER))

    items.sort(key=stage)
