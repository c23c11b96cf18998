"""What the operator renders for the application, from a whole and from an empty spec."""

from __future__ import annotations

import pytest

from podium_operator.builders import config, defaults, ingress, maintenance, migrate, services
from tests.unit.operator.golden import assert_golden, case

BUILDERS = {
    "config": config.build,
    "defaults": defaults.build,
    "ingress": ingress.build,
    "maintenance": maintenance.build,
    "migrate": migrate.build,
    "services": services.build,
}


@pytest.mark.parametrize("scoreboard", ["minimal", "full"])
@pytest.mark.parametrize("component", sorted(BUILDERS))
def test_rendering_is_as_recorded(scoreboard: str, component: str) -> None:
    """The objects are those of the golden file."""
    assert_golden(f"{scoreboard}.{component}", BUILDERS[component](case(scoreboard)))
