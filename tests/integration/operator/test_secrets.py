"""The operator's Secrets on a real API server: made once, and never lost while one of two copies is left."""

from __future__ import annotations

import asyncio

import pytest

from podium_operator import secret_data
from podium_operator.cluster import SCOREBOARD, SECRET
from tests.integration.operator.world import NAME, USER, World

GENERATED = secret_data.GENERATED
ALL = (*GENERATED, secret_data.COPY, "jwks", "clients")


async def _data(world: World, *suffixes: str) -> dict[str, dict[str, str]]:
    """The values of Secrets by suffix."""
    return {suffix: secret_data.decode((await world.secret(suffix))["data"]) for suffix in suffixes}


async def _delete(world: World, *suffixes: str) -> None:
    for suffix in suffixes:
        await world.admin.delete(SECRET, world.namespace, f"{NAME}-{suffix}")


async def test_they_are_made_once(world: World) -> None:
    """Neither another look nor another spec changes a generated Secret."""
    await world.write()
    await world.settle()
    before = await _data(world, *GENERATED)
    await world.write({"version": "1.0.1", "deletionPolicy": "Delete"})
    await world.settle()
    assert await _data(world, *GENERATED) == before


async def test_each_comes_back_as_it_was(world: World) -> None:
    """Whichever is deleted is made again with the same content: the stores keep the passwords that they learnt."""
    await world.write()
    await world.settle()
    before = await _data(world, *ALL)
    pods = (await world.deployment("scores"))["spec"]["template"]
    for suffix in ALL:
        await _delete(world, suffix)
        await world.step()
        assert await _data(world, *ALL) == before, suffix
    assert "Restored" in await world.reasons()
    await world.settle()
    assert (await world.deployment("scores"))["spec"]["template"] == pods


async def test_all_come_back_from_the_copy(world: World) -> None:
    """All that were generated are deleted at once."""
    await world.write()
    await world.step()
    before = await _data(world, *GENERATED)
    await _delete(world, *GENERATED, "jwks", "clients")
    await world.step()
    assert await _data(world, *GENERATED) == before


@pytest.mark.parametrize("suffix", GENERATED)
async def test_without_both_it_is_made_anew(world: World, suffix: str) -> None:
    """There is nothing left to make it from; the others stay as they are."""
    await world.write()
    await world.step()
    before = await _data(world, *GENERATED)
    await _delete(world, suffix, secret_data.COPY)
    await world.step()
    after = await _data(world, *GENERATED)
    assert [each for each in GENERATED if after[each] != before[each]] == [suffix]
    assert (await _data(world, secret_data.COPY))[secret_data.COPY] == secret_data.copied(after)


async def test_a_lost_key_comes_back(world: World) -> None:
    """A key that was removed from a Secret has its value again; so has one of the copy."""
    await world.write()
    await world.step()
    before = await _data(world, *GENERATED, secret_data.COPY)
    for suffix, name in (("postgres", "password"), (secret_data.COPY, "postgres.password")):
        await world.admin.merge(SECRET, world.namespace, f"{NAME}-{suffix}", {"data": {name: None}}, manager=USER)
        await world.step()
        assert await _data(world, *GENERATED, secret_data.COPY) == before


async def test_a_scoreboard_without_the_copy_gets_it(world: World) -> None:
    """One that an operator without the copy made: the copy holds what is in use."""
    await world.write()
    await world.step()
    before = await _data(world, *GENERATED)
    await _delete(world, secret_data.COPY)
    await world.step()
    assert (await _data(world, secret_data.COPY))[secret_data.COPY] == secret_data.copied(before)


async def test_an_edited_value_is_left_and_followed(world: World) -> None:
    """A hand that changes a value is not overruled, and its value is what comes back after a deletion."""
    await world.write()
    await world.step()
    data = secret_data.encode({"password": "by hand"})
    await world.admin.merge(SECRET, world.namespace, f"{NAME}-nats", {"data": data}, manager=USER)
    await world.step()
    await _delete(world, "nats")
    await world.step()
    assert await _data(world, "nats") == {"nats": {"password": "by hand"}}


async def test_a_retained_secret_serves_the_next_scoreboard(world: World) -> None:
    """Only `<name>-postgres` is left of a former Scoreboard: the next one takes its passwords into its copy."""
    await world.write()
    await world.step()
    before = await _data(world, "postgres")
    await world.admin.delete(SCOREBOARD, world.namespace, NAME)
    owned = [s for s in ALL if (await world.secret(s))["metadata"].get("ownerReferences")]  # what goes with it
    assert set(ALL) - set(owned) == {"postgres"}
    await _delete(world, *owned)
    await world.write()
    await world.step()
    await _delete(world, "postgres")
    await world.step()
    assert await _data(world, "postgres") == before


async def test_a_deletion_during_a_look_is_mended_by_the_next(world: World) -> None:
    """However deletions and looks interleave, the content stays."""
    await world.write()
    await world.step()
    before = await _data(world, *GENERATED)
    for suffix in GENERATED:
        await asyncio.gather(world.step(), _delete(world, suffix))
        await world.step()
        assert await _data(world, *GENERATED) == before
