"""Specification of what shared caches are told, on the short way of a read and on the route alike."""

from collections.abc import Callable

import pytest

from podium.common.problems import StoreUnavailable
from podium.scoreboard import caching
from podium.scoreboard.lean import LeanReads
from podium.scoreboard.settings import CacheSettings
from tests.unit.scoreboard.test_lean import WRONG, Nobody, Went, apps, get, tops

__all__ = ["apps", "tops"]

ASKERS = {
    "nobody": {},
    "a browser": {"accept-encoding": "gzip, br", "origin": "https://game.example", "accept-language": "de"},
    "a user": {"authorization": "Bearer x.y.z", "cookie": "session=1", "accept": "text/html"},
}


def directives(control: str) -> set[str]:
    """The members of a Cache-Control field."""
    return {one.strip() for one in control.split(",")}


def test_a_ranking_is_kept_for_the_times_of_the_spec() -> None:
    """The directives of RFC 9111 and RFC 5861, and every tag in both spellings that CDNs read."""
    headers = caching.ranking(CacheSettings(s_maxage=2, stale_while_revalidate=7, stale_if_error=90), "lap", '"t"')
    assert directives(headers.pop("Cache-Control")) == {
        *("public", "max-age=0", "s-maxage=2", "stale-while-revalidate=7", "stale-if-error=90")
    }
    assert headers == {
        "ETag": '"t"',
        "Surrogate-Key": "scoreboard scoreboard-lap",
        "Cache-Tag": "scoreboard,scoreboard-lap",
    }


@pytest.mark.parametrize("describe", [caching.season_list, caching.season_page])
def test_seasons_have_tags_of_their_own(describe: Callable[[CacheSettings, str, str], dict[str, str]]) -> None:
    """A purge of a board's ranking, which is frequent, leaves the ended seasons where they are."""
    headers = describe(CacheSettings(), "lap", '"t"')
    assert headers["Surrogate-Key"] == "scoreboard-seasons scoreboard-seasons-lap"
    assert caching.board_tag("lap") not in headers["Surrogate-Key"].split()
    assert "stale-if-error=60" in headers["Cache-Control"]


@pytest.mark.parametrize("asker", ASKERS)
async def test_the_answer_is_the_same_for_everyone(apps: tuple[Went, LeanReads], asker: str) -> None:
    """No request header changes a byte, so there is no Vary, and a shared cache may keep what a user with a token got.

    RFC 9111, section 3.5, allows that where public or s-maxage is given.
    """
    for app in apps:
        expected, answer = await get(app, ""), await get(app, "", ASKERS[asker])
        assert (answer.status_code, answer.content) == (200, expected.content)
        assert answer.headers == expected.headers
        assert "vary" not in answer.headers
        assert {"public", "s-maxage=1"} <= directives(answer.headers["cache-control"])


async def test_not_modified_refreshes_what_is_kept(apps: tuple[Went, LeanReads]) -> None:
    """A 304 carries the fields that the 200 had (RFC 9110, section 15.4.5)."""
    for app in apps:
        full = await get(app, "")
        answer = await get(app, "", {"if-none-match": full.headers["etag"]})
        assert (answer.status_code, answer.content) == (304, b"")
        for name in ("etag", "cache-control", "surrogate-key", "cache-tag"):
            assert answer.headers[name] == full.headers[name]


@pytest.mark.parametrize("query", [query for query in WRONG if query != "limit=03"])
async def test_errors_are_kept_by_nobody(apps: tuple[Went, LeanReads], query: str) -> None:
    """A refusal has no lifetime, no validator, and no tags."""
    for app in apps:
        answer = await get(app, query)
        assert answer.status_code == 400
        assert answer.headers["cache-control"] == "no-store"
        assert not {"etag", "surrogate-key", "cache-tag"} & set(answer.headers)


async def test_an_answer_that_cannot_be_given_is_kept_by_nobody(
    apps: tuple[Went, LeanReads], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis is needed for a page beyond the top and is away: 503, which a cache may cover with an older answer."""

    async def away(*_: object) -> None:
        raise StoreUnavailable("redis")

    monkeypatch.setattr(Nobody, "page", away)
    for app in apps:
        answer = await get(app, "limit=50")
        assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
        assert answer.headers["retry-after"]
