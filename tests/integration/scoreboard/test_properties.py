"""Whatever happens in whatever order, the ranking ends as ``ORDER BY score DESC, reached_at, user_id`` says."""

import itertools
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, note, settings
from hypothesis import strategies as st

from podium.common.database import make_engine
from podium.common.redis import make_redis
from podium.common.settings import DatabaseSettings, RedisSettings
from podium.scoreboard.domain import percentile
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.store import NotProjected, RankingStore
from tests.integration.scoreboard.model import Model

USERS = ["a", "b", "B", "é", "a|b", "a:b", "%d", '"q"', "日本"]
NUMBERS = itertools.count()
"""A board of its own for each example."""

SMALL = st.integers(-3, 3)
HUGE = st.sampled_from([10**15, 10**15 - 1, 10**15 - 2, -(10**15), 1 - 10**15])
USER = st.sampled_from(USERS)
NAME = st.sampled_from(["Ann", "a|b|c", 'quo"te', "line\nbreak", ""])
MOMENT = st.integers(0, 3)

ACT = st.tuples(st.just("act"), USER, NAME, st.one_of(SMALL, HUGE), MOMENT)
DELIVER = st.tuples(st.just("deliver"), st.integers(0, 2), st.integers(0, 30), st.integers(1, 4), st.booleans())
STEPS = st.lists(
    st.one_of(
        *[ACT] * 6,
        *[DELIVER] * 6,
        *[st.tuples(st.just("restrict"), USER, st.booleans())] * 2,
        *[st.tuples(st.just("step"), st.sampled_from([1, 3]))] * 3,
        st.just(("look",)),
        st.sampled_from([("abandon",), ("reset",), ("wipe",)]),
    ),
    min_size=10,
    max_size=40,
)
"""Mostly updates, so that what ends right does so by them and not by a rebuild at the end."""


@pytest.fixture
async def make_model(
    database_settings: DatabaseSettings, redis_settings: RedisSettings
) -> AsyncIterator[Callable[..., Model]]:
    """Boards on the stores of this test."""
    engine, source, client = make_engine(database_settings), ScoreSource(database_settings), make_redis(redis_settings)

    def make(operator: str, shards: int, top: int) -> Model:
        board = f"b{next(NUMBERS)}"
        return Model(board, operator, shards, top, engine, source, RankingStore(client), client)

    yield make
    await client.aclose()
    await source.close()
    await engine.dispose()


async def do(model: Model, step: tuple[Any, ...]) -> None:
    """One step of the story."""
    match step:
        case ["act", user, name, points, moment]:
            current = {one.user_id: one.score for one in await model.truth()}
            if model.operator != "Increment" or abs(current.get(user, 0) + points) <= 10**15:
                await model.act(user, name, points, moment)
        case ["deliver", projector, start, count, acknowledge] if model.events:
            start %= len(model.events)
            await model.deliver(projector, model.events[start : start + count], acknowledge=acknowledge)
        case ["restrict", user, hidden]:
            await model.restrict(user, hidden)
        case ["step", shards]:
            await model.step(shards)
        case ["abandon"]:
            model.build = None
        case ["reset"]:
            await model.reset()
        case ["wipe"]:
            await model.wipe()
    await model.look()


BACK_AND_FORTH = [("act", "a", "Ann", 0, 0), ("step", 3), ("abandon",), ("step", 1), ("abandon",), ("reset",)]
"""Rebuilds with three shards, with one, and with three again: what the first left is no former layout."""


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("operator", ["Increment", "Best", "Latest"])
@given(STEPS, st.integers(1, 4))
@example(BACK_AND_FORTH, 1)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_story_ends_in_the_order_of_sql(
    make_model: Callable[..., Model], operator: str, shards: int, steps: list[tuple[Any, ...]], top: int
) -> None:
    """Updates, redeliveries, stale versions, bans, resets, abandoned rebuilds, a wiped Redis, several projectors."""
    note(f"{steps} {top}")
    model = make_model(operator, shards, top)
    await model.finish()
    for step in steps:
        await do(model, step)
    await model.finish()
    truth = await model.truth()
    assert await model.store.places(model.board, 1000) == truth
    snapshot = await model.store.top(model.board)
    assert snapshot is not None
    assert snapshot.rankings == truth[:top]
    await check_standings(model, 2)


async def check_standings(model: Model, around: int) -> None:
    """Every user's rank, players and neighbours are those of SQL; who is hidden or unknown has none."""
    truth = await model.truth()
    for place in truth:
        found = await model.store.standing(model.board, place.user_id, around)
        assert found is not None
        page, rank, players = found
        assert (rank, players) == (place.rank, len(truth))
        assert page.rankings == truth[max(0, rank - 1 - around) : rank + around]
        assert 0 <= percentile(rank, players) <= 100
    for user in {*USERS, "nobody"} - {place.user_id for place in truth}:
        with pytest.raises(NotProjected):
            await model.store.standing(model.board, user, around)


@pytest.mark.parametrize("shards", [1, 3])
async def test_neighbours_of_the_largest_score_keep_their_order(make_model: Callable[..., Model], shards: int) -> None:
    """10**15 and its neighbours are different doubles; equal scores go by time, equal times by the bytes of the id."""
    model = make_model("Latest", shards, 10)
    for user, points, moment in [
        ("a", 10**15 - 1, 0), ("b", 10**15, 1), ("B", 10**15, 1), ("é", 10**15, 0), ("%d", 10**15 - 2, 0),
        ("a|b", -(10**15), 0), ("a:b", 1 - 10**15, 0), ('"q"', 0, 0),
    ]:  # fmt: skip
        await model.act(user, user, points, moment)
    await model.finish()
    truth = await model.truth()
    assert [place.user_id for place in truth] == ["é", "B", "b", "a", "%d", '"q"', "a:b", "a|b"]
    assert await model.store.places(model.board, 1000) == truth
    await check_standings(model, 3)


@pytest.mark.parametrize("shards", [1, 3, 4])
async def test_pages_and_neighbours_at_the_edges(make_model: Callable[..., Model], shards: int) -> None:
    """A page of 1000, the first and the last user, one user alone, and nobody at all."""
    model = make_model("Increment", shards, 10)
    await model.finish()
    assert await model.store.places(model.board, 1000) == ()
    await model.act("alone", "Alone", 0, 0)
    await model.finish()
    found = await model.store.standing(model.board, "alone", 50)
    assert found is not None
    assert (found[1], found[2], [one.user_id for one in found[0].rankings]) == (1, 1, ["alone"])
    for number in range(1200):
        await model.act(f"user-{number}", "U", number % 40, number % 7)
    await model.finish()
    truth = await model.truth()
    for limit in (1, 10, 11, 999, 1000):
        assert await model.store.places(model.board, limit) == truth[:limit]
    for rank in (1, 2, len(truth) // 2, len(truth) - 1, len(truth)):
        found = await model.store.standing(model.board, truth[rank - 1].user_id, 50)
        assert found is not None
        assert found[1:] == (rank, 1201)
        assert found[0].rankings == truth[max(0, rank - 51) : rank + 50]
