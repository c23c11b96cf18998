"""What the state of Patroni's members means."""

import pytest

from podium_operator.spec import Postgres
from podium_operator.stores.postgres import Members, judge, merged

BOTH = {"p-0": "running", "p-1": "streaming"}


def spec(synchronous: str = "Preferred", instances: int = 2) -> Postgres:
    """The wanted PostgreSQL."""
    return Postgres.model_validate({"synchronous": synchronous, "instances": instances})


def test_primary_and_synchronous_replica_are_well() -> None:
    """The normal state."""
    status = judge(Members("p-0", ("p-1",), BOTH), spec())
    assert (status.ok, status.serving) == (True, True)


def test_without_a_leader_nothing_is_served() -> None:
    """Also while the leader's pod is not ready."""
    assert not judge(Members("", (), BOTH), spec()).serving
    assert not judge(Members("p-0", ("p-1",), {"p-0": "not ready", "p-1": "streaming"}), spec()).serving


@pytest.mark.parametrize(("mode", "instances", "serving"), [("Preferred", 2, True), ("Strict", 3, False)])
def test_without_a_synchronous_replica(mode: str, instances: int, serving: bool) -> None:
    """Preferred goes on and says what may be lost; Strict takes no writes."""
    status = judge(Members("p-0", (), {"p-0": "running"}), spec(mode, instances))
    assert not status.ok
    assert status.serving is serving
    assert "synchronous replica" in status.message


def test_off_needs_no_synchronous_replica() -> None:
    """A choice of the user."""
    assert judge(Members("p-0", (), BOTH), spec("Off")).ok


def test_shared_settings_are_changed_without_losing_others() -> None:
    """What somebody set by patronictl stays."""
    current = {"ttl": 30, "postgresql": {"parameters": {"x": 1}}}
    assert merged(current, {"ttl": 20, "postgresql": {"parameters": {"y": 2}}}) == {
        "ttl": 20,
        "postgresql": {"parameters": {"x": 1, "y": 2}},
    }
