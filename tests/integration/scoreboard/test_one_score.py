"""One score from the signed request to the watchers of two pods, with every service real."""

import asyncio
from functools import partial

import msgspec

from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from tests.integration.scoreboard.clients import message, shows, watching
from tests.integration.scoreboard.services import BOARDS, Issuer, running_scoreboard
from tests.integration.scoreboard.support import running_game, running_projector, until
from tests.integration.scores.support import make_settings, open_session, running


async def test_accepted_updates_reach_the_watchers_of_both_pods(
    database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings
) -> None:
    """Users of one game score at once; at the end both pods show what SQL has."""
    stores = (redis_settings, nats_settings, Issuer())
    async with (
        running_game(database_settings, redis_settings, nats_settings) as game,
        running(make_settings(database_settings, redis_settings, nats_settings)) as scores,
        running_projector(database_settings, redis_settings, nats_settings, BOARDS),
        running_scoreboard(*stores) as (first, _),
        running_scoreboard(*stores) as (second, _),
        watching(first) as one,
        watching(second) as two,
    ):
        sessions = [open_session() for _ in range(15)]
        answers = await asyncio.gather(
            *(scores.update(session) for number, session in enumerate(sessions) for _ in range(number % 4 + 1))
        )
        assert {answer.status_code for answer in answers} == {200}
        truth = await game.truth(10)
        assert truth[0].score == 40
        for connection in (one, two):
            while (await message(connection, "snapshot"))["rankings"] != msgspec.to_builtins(list(truth)):
                continue
        for pod in (first, second):
            await until(partial(shows, pod, game), "GET shows it, too")
