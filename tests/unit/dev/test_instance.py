"""Instances of the local cluster: names and addresses of their own."""

import sys
from pathlib import Path

import pytest

from podium_dev.console import StageError
from podium_dev.instance import Instance, choose_network, instance_id, parse_routes

_IFNAMSIZ = 16
"""Bytes of an interface's name with its closing NUL (netdevice(7))."""


def test_two_checkouts_are_two_instances(tmp_path: Path) -> None:
    """The id differs between checkouts and between values of PODIUM_INSTANCE, and is stable otherwise."""
    one, other = tmp_path / "one", tmp_path / "other"
    ids = {instance_id(one, ""), instance_id(other, ""), instance_id(one, "test")}
    assert len(ids) == 3
    assert instance_id(one, "") in ids


def test_link_names_fit_into_the_kernel() -> None:
    """Interface names have at most 15 characters."""
    instance = Instance("0123abcd", 128)
    assert len(instance.host_link) < _IFNAMSIZ
    assert len(instance.node_link) < _IFNAMSIZ
    assert instance.host_link != instance.node_link


def test_network_avoids_other_instances_and_routes() -> None:
    """A network is free if no instance has it and no route of the host overlaps it."""
    assert choose_network([], []) == 128
    assert choose_network([128], ["10.129.3.0/24", "192.168.0.0/16"]) == 130


def test_no_free_network_is_said() -> None:
    """With every candidate taken, the reason is given."""
    with pytest.raises(StageError, match="no network"):
        choose_network([], ["10.0.0.0/8"])


def test_ports_are_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port stays the same for an instance and differs between purposes."""
    monkeypatch.setenv("PODIUM_STATE", str(tmp_path))
    instance = Instance("0123abcd", 128)
    first = instance.port("scoreboard")
    assert instance.port("scoreboard") == first
    assert instance.port("traces") != first


@pytest.mark.skipif(sys.byteorder != "little", reason="the sample is of a little-endian machine")
def test_routes_of_the_kernel_are_read() -> None:
    """Destination and mask become a CIDR; the default route is none."""
    table = (
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "pdm\t0000800A\t0280800A\t0003\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
    )
    assert parse_routes(table) == ["10.128.0.0/255.255.0.0"]
    assert choose_network([], parse_routes(table)) == 129
