"""A changed top purges the CDN: real stores, real projectors, and an HTTP receiver that fails, hangs and refuses."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from podium.common.settings import DatabaseSettings, NatsSettings, RedisSettings
from podium.scoreboard.domain import Snapshot
from podium.scoreboard.projector import purge
from podium.scoreboard.settings import PurgeSettings
from tests.integration.scoreboard.receiver import PurgeApi, running_purge_api
from tests.integration.scoreboard.support import Game, running_projector, until
from tests.integration.scoreboard.test_projector import watched
from tests.support.processes import free_ports, scratch_directory

TOKEN = "the-token-of-the-tests"
INTERVAL_SECONDS = 0.2

Settings = Callable[..., PurgeSettings]
Start = Callable[..., contextlib.AbstractAsyncContextManager[object]]


@pytest.fixture
def token_file() -> Iterator[Path]:
    """The mounted Secret."""
    with scratch_directory() as directory:
        path = directory / "token"
        write(path, TOKEN)
        yield path


def write(token_file: Path, token: str) -> None:
    """Change the Secret."""
    token_file.write_text(token + "\n")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same behaviour with shorter times."""
    monkeypatch.setattr(purge, "REPEAT_SECONDS", 0.5)
    monkeypatch.setattr(purge, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(purge, "CALL_SECONDS", 0.4)


@pytest.fixture
def start(
    database_settings: DatabaseSettings, redis_settings: RedisSettings, nats_settings: NatsSettings, token_file: Path
) -> Start:
    """A projector that purges by calling ``url``."""

    def projector(url: str, **options: object) -> contextlib.AbstractAsyncContextManager[object]:
        values = {"min_interval_seconds": INTERVAL_SECONDS, "form": "Bearer", "token_file": token_file, **options}
        settings = PurgeSettings(url=url, **values)  # type: ignore[arg-type]
        return running_projector(database_settings, redis_settings, nats_settings, purge=settings)

    return projector


def counted(outcome: str) -> float:
    """The calls of this process with an outcome."""
    return REGISTRY.get_sample_value("podium_cdn_purges_total", {"outcome": outcome}) or 0.0


async def purged(api: PurgeApi, game: Game, times: int = 1) -> bool:
    """Whether the present version of the top was purged so many times."""
    top = await game.store.top("default")
    return top is not None and api.versions().count(top.version) >= times


async def test_a_changed_top_is_purged_and_once_more(game: Game, start: Start) -> None:
    """The call names the board's tag and its new version; the second is for pods that had the old top a bit longer."""
    async with running_purge_api() as api, start(api.url):
        await game.score("ann", 10)
        await until(lambda: purged(api, game, 2), "the new top is purged twice")
        calls = [call for call in api.calls if call.body["version"] == api.versions()[-1]]
        assert calls[1].at - calls[0].at >= 0.45
        assert {call.headers["surrogate-key"] for call in calls} == {"scoreboard-default"}
        assert {call.headers["authorization"] for call in calls} == {f"Bearer {TOKEN}"}
        assert {call.method for call in calls} == {"POST"}


async def test_a_call_is_signed_unless_said_otherwise(game: Game, start: Start) -> None:
    """With the key in the Secret, which is not sent."""
    async with running_purge_api() as api, start(api.url, form="Signed"):
        await game.score("ann", 10)
        await until(lambda: purged(api, game), "the new top is purged")
        assert 'keyid="podium/default/podium"' in api.calls[-1].headers["signature-input"]
        assert TOKEN not in str(api.calls)


async def test_many_changes_are_few_calls(game: Game, start: Start) -> None:
    """Two projectors together call once in the interval, and the last call has the last version."""
    async with running_purge_api() as api, start(api.url), start(api.url), watched(game) as seen:
        for number in range(60):
            await game.score(f"user{number % 7}", number + 1)
        await until(lambda: purged(api, game, 2), "the last top is purged")
        assert len(seen) > len(api.calls)
        gaps = [after.at - before.at for before, after in itertools.pairwise(api.calls)]
        assert min(gaps) > INTERVAL_SECONDS * 0.8, "of one turn each; the rest is the way of a request"


async def test_a_call_that_fails_is_repeated(game: Game, start: Start) -> None:
    """With growing pauses, for the newest version there is."""
    before = counted("failed"), counted("purged")
    async with running_purge_api() as api, start(api.url, min_interval_seconds=0.001):
        await until(lambda: purged(api, game, 2), "the first top is purged")
        api.answers[:] = [503, 500, 429]
        await game.score("ann", 10)
        await until(lambda: purged(api, game, 4), "the call is made until it succeeds")
    assert counted("failed") - before[0] == 3
    assert counted("purged") - before[1] >= 3


async def test_a_receiver_that_hangs_delays_no_top(game: Game, start: Start) -> None:
    """Watchers see every change while nothing answers; the newest is purged when something does."""
    before = counted("unreachable"), counted("purged")
    async with running_purge_api(*[0] * 1000) as api, start(api.url), watched(game) as seen:
        for score in (10, 20, 30):
            await game.score("ann", 10)
            await until(partial(_shows, seen, score), "the watchers see it")
        await until(partial(_more, "unreachable", before[0]), "a call was given up")
        assert counted("purged") == before[1]
        api.answers.clear()
        await until(lambda: purged(api, game), "the newest top is purged")


async def _shows(seen: Sequence[Snapshot], score: int) -> bool:
    rankings = seen[-1].rankings if seen else ()
    return bool(rankings) and rankings[0].score == score


async def test_a_refusal_is_not_repeated_and_quotes_no_secret(game: Game, start: Start) -> None:
    """A wrong token will not become right by asking again; the log says what happened, and nothing secret."""
    before = counted("refused")
    with capture_logs() as logs:
        async with running_purge_api(*[403] * 100) as api, start(f"{api.url}?account=private"):
            await until(lambda: purged(api, game, 2), "the first top was tried, and tried again after a while")
            await until(partial(_more, "refused", before + 1), "both refusals are counted")
            assert len(api.calls) == 2, "the first, and its repetition for pods that were late"
    said = [entry for entry in logs if entry["event"].startswith("a purge failed")]
    assert [(entry["attempt"], entry["error"]) for entry in said[:1]] == [(1, "answered with 403")]
    assert TOKEN not in str(logs)
    assert "private" not in str(said)


async def test_nobody_there_is_no_reason_to_stop(game: Game, start: Start) -> None:
    """The projector goes on, and counts."""
    before = counted("unreachable")
    (port,) = free_ports(1)
    async with start(f"http://127.0.0.1:{port}/purge"), watched(game) as seen:
        await game.score("ann", 10)
        await until(partial(_shows, seen, 10), "the watchers see it")
        await until(partial(_more, "unreachable", before), "the attempt is counted")


async def _more(outcome: str, than: float) -> bool:
    return counted(outcome) > than


async def test_another_token_needs_no_restart(game: Game, start: Start, token_file: Path) -> None:
    """Without one nothing is called; a new one is used from the next call on."""
    write(token_file, "")
    before = counted("no-token")
    async with running_purge_api() as api, start(api.url):
        await until(partial(_more, "no-token", before), "it is noticed that there is no token")
        assert api.calls == []
        write(token_file, "another")
        await game.score("ann", 10)
        await until(lambda: purged(api, game), "the new top is purged")
        assert api.calls[-1].headers["authorization"] == "Bearer another"


async def test_what_is_left_is_purged_at_the_end(game: Game, start: Start) -> None:
    """A projector that stops while it waits for its turn calls once more."""
    async with running_purge_api() as api:
        async with start(api.url, min_interval_seconds=3600.0):
            await until(lambda: purged(api, game), "the first top is purged")
            await game.score("ann", 10)
            await until(lambda: _version_above(game, api.versions()[-1]), "the top has changed")
        assert await purged(api, game)


async def _version_above(game: Game, version: int) -> bool:
    top = await game.store.top("default")
    state = await game.store.state("default")
    return top is not None and top.version > version and state.published == top.version
