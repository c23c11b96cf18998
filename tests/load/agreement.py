"""Whether the opponents do the same work: they must answer as Podium does, to right requests and to wrong ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx
import jwt

from podium.common.signing import SigningKeys
from podium_dev.console import stage
from tests.load.arena import Arena
from tests.load.contenders import Contender
from tests.load.scoreboard import Keys
from tests.support.client import Session, Update, signed_headers

CONCURRENT = 16
"""Duplicates of one update that are sent at the same time."""

Result = tuple[Any, ...]


@dataclass(frozen=True)
class Player:
    """One user who sends to one contender."""

    http: httpx.AsyncClient
    session: Session

    async def send(self, update: Update, **headers: str) -> httpx.Response:
        """Sign and send; ``headers`` replaces headers after signing (underscores stand for hyphens)."""
        final = signed_headers(self.session, update) | {name.replace("_", "-"): text for name, text in headers.items()}
        return await self.http.post(update.path, content=update.body, headers=final)


def _session(keys: Keys, user: str, **claims: Any) -> Session:
    told = keys.for_generator()
    payload = {
        "iss": told["issuer"],
        "aud": told["audience"],
        "sub": user,
        "client_id": "bench",
        "jti": f"jti-{user}",
        "iat": int(time.time()) - 1,
        "nbf": int(time.time()) - 1,
        "exp": int(time.time()) + 300,
        "sid": f"sid-{user}",
        "scope": "scores:write",
        "username": f"Name {user}",
    } | claims
    token = jwt.encode(payload, keys.private, "EdDSA", headers={"kid": "bench", "typ": "at+jwt"})
    key = SigningKeys({"1": keys.master}, "1", told["issuer"]).issue(payload["sid"])
    return Session(user, token, "", key.kid, key.k, 300, payload["scope"])


def _of(response: httpx.Response) -> Result:
    """What has to be equal: the status, then the slug or the answer but for its time, and what a replay says."""
    document = response.json()
    if response.status_code != httpx.codes.OK:
        return response.status_code, document["type"].rsplit("/", 1)[-1]
    fixed = {name: value for name, value in document.items() if name != "lastUpdated"}
    limit = response.headers.get("ratelimit", "").split(";t=")[0]
    replayed = response.headers.get("idempotent-replayed")
    return response.status_code, fixed, response.headers.get("ratelimit-policy"), limit, replayed


async def _accepted(player: Player) -> Result:
    first = await player.send(Update.of("win", action_id="a"))
    return _of(first), _of(await player.send(Update.of("bonus", action_id="b", data={"level": 2})))


async def _replayed(player: Player) -> Result:
    update = Update.of("win", action_id="a")
    first, again = await player.send(update), await player.send(update.again())
    other = Update.of("win", action_id="a", data={"other": 1})
    return _of(again), first.json() == again.json(), _of(await player.send(other))


async def _duplicates(player: Player) -> Result:
    update = Update.of("win", action_id="a")
    answers = await asyncio.gather(*(player.send(update.again()) for _ in range(CONCURRENT)))
    counted = sum("idempotent-replayed" not in answer.headers for answer in answers)
    return counted, len({answer.text for answer in answers}), {answer.status_code for answer in answers}


async def _at_once(player: Player) -> Result:
    answers = await asyncio.gather(
        *(player.send(Update.of("win", action_id=f"a{number}")) for number in range(CONCURRENT))
    )
    return tuple(sorted(answer.json().get("score", answer.text) for answer in answers))


async def _wrong(player: Player) -> Result:
    update = Update.of("win", action_id="a")
    spent = Update.of("win", action_id="b")
    return (
        _of(await player.send(update, authorization="Bearer nothing")),
        _of(await player.send(update, content_type="text/plain")),
        _of(await player.send(update, signature="sig1=:AAAA:")),
        _of(await player.send(replace(update, nonce=""))),
        _of(await player.send(replace(update, created=update.created - 400))),
        _of(await player.send(replace(update, covered=("@method", "@path", "authorization", "content-digest")))),
        _of(await player.send(replace(update, digest="sha-256=:AAAA:"))),
        _of(await player.send(replace(update, body=b'{"actionId":"a"}'))),
        _of(await player.send(spent)),
        _of(await player.send(spent)),
        _of(await player.send(Update.of("nothing"))),
        _of(await player.send(Update.of("bonus", data={"level": 0}))),
        _of(await player.send(Update.of("win", timestamp="2020-01-01T00:00:00Z"))),
        _of(await player.send(replace(update, body=b" " * 20_000))),
        _of(await player.send(replace(update, path=f"{update.path}?a=b"))),
    )


async def _cooldown(player: Player) -> Result:
    first, second = (Update.of("combo", action_id=action_id) for action_id in ("a", "b"))
    return _of(await player.send(first)), _of(await player.send(second))


CASES: Sequence[Callable[[Player], Awaitable[Result]]] = (
    _accepted,
    _replayed,
    _duplicates,
    _at_once,
    _wrong,
    _cooldown,
)


async def answers_of(arena: Arena, contender: Contender) -> dict[str, Result]:
    """What a contender answers in each case."""
    with stage(f"Ask {contender.name}"):
        async with (
            arena.entered(contender) as entered,
            httpx.AsyncClient(base_url=f"http://{entered.running.addresses[0]}", timeout=15) as http,
        ):
            found: dict[str, Result] = {}
            for case in CASES:
                player = Player(http, _session(arena.keys, case.__name__.strip("_")))
                found[player.session.user_id] = await case(player)
            expired = Player(http, _session(arena.keys, "late", exp=int(time.time()) - 60))
            reader = Player(http, _session(arena.keys, "reader", scope="scoreboard:read"))
            found["token"] = tuple([_of(await each.send(Update.of("win"))) for each in (expired, reader)])
            return found


def differences(ours: dict[str, Result], theirs: dict[str, Result]) -> list[str]:
    """What differs, in words."""
    return [f"{case}: {theirs[case]} instead of {ours[case]}" for case in ours if ours[case] != theirs[case]]
