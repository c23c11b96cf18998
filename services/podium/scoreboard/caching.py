"""What shared caches are told about rankings: for how long, and under which tags. Pure.

A representation depends on the path and the query alone, so it carries no ``Vary`` (RFC 9110, section 12.5.5): nothing
here or in the gateway compresses, and neither ``Origin`` nor ``Authorization`` nor a cookie changes a byte. ``public``
and ``s-maxage`` let caches keep the answer to a request with ``Authorization``, too (RFC 9111, section 3.5). Errors are
``no-store``, which ``podium.common.problems`` sees to.
"""

from typing import Final

from podium.scoreboard.settings import CacheSettings

SEASONS: Final = "scoreboard-seasons"
"""Tag of all that is told of ended seasons."""

_LIST: Final = "public, max-age=0, s-maxage=10, stale-while-revalidate=60"
"""A season may end at any time."""

_SEASON: Final = "public, max-age=0, s-maxage=300, stale-while-revalidate=300"
"""Only a ban, or its end, changes the ranking of an ended season; shared caches show it within minutes."""


def board_tag(board: str) -> str:
    """The tag by which every page of a board's ranking is purged."""
    return f"scoreboard-{board}"


def ranking(cache: CacheSettings, board: str, tag: str) -> dict[str, str]:
    """Headers of a page of a board, whose validator is ``tag``.

    Shared caches keep it for a moment (RFC 9111, RFC 5861); browsers ask again, with the ETag.
    """
    control = f"public, max-age=0, s-maxage={cache.s_maxage}, stale-while-revalidate={cache.stale_while_revalidate}"
    return _headers(cache, control, tag, "scoreboard", board_tag(board))


def season_list(cache: CacheSettings, board: str, tag: str) -> dict[str, str]:
    """Headers of the list of a board's seasons."""
    return _headers(cache, _LIST, tag, SEASONS, f"{SEASONS}-{board}")


def season_page(cache: CacheSettings, board: str, tag: str) -> dict[str, str]:
    """Headers of the ranking of an ended season."""
    return _headers(cache, _SEASON, tag, SEASONS, f"{SEASONS}-{board}")


def _headers(cache: CacheSettings, control: str, tag: str, *keys: str) -> dict[str, str]:
    return {
        "ETag": tag,
        "Cache-Control": f"{control}, stale-if-error={cache.stale_if_error}",
        "Surrogate-Key": " ".join(keys),  # Fastly, Varnish
        "Cache-Tag": ",".join(keys),  # Cloudflare, Google
    }
