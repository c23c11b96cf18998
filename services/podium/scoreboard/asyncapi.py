"""The AsyncAPI 3 description of what is live: the WebSocket and the stream of events.

What AsyncAPI has no words for stands in extensions: ``x-closeCodes`` (by code, with a schema of the reason) and
``x-refusals`` (HTTP answers to the handshake).
"""

from typing import Any

from podium.scoreboard.pace import BURST, FRAMES_PER_SECOND
from podium.scoreboard.settings import WatchSettings

_STRING = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_BOARDS = {"type": "array", "items": _STRING, "minItems": 1, "examples": [["default"]]}

_RANKING = {
    "type": "object",
    "required": ["userId", "username", "score", "rank"],
    "properties": {
        "userId": _STRING,
        "username": _STRING,
        "score": {"type": "integer"},
        "rank": {"type": "integer", "minimum": 1},
    },
}

_RETRY = {
    "type": "string",
    "contentMediaType": "application/json",
    "contentSchema": {
        "type": "object",
        "required": ["retryAfterMs"],
        "properties": {"retryAfterMs": {"type": "integer", "minimum": 0, "description": "Come back after that time"}},
    },
}

ERRORS = {
    "malformed-message": "not one JSON object in a text message, or a field is missing or of a wrong type",
    "message-too-large": "longer than a message may be",
    "unknown-type": "no message has this type",
    "board-unknown": "the Scoreboard has no such board",
    "token-invalid": "not a token of this Scoreboard, or another user's than before",
    "token-expired": "the token is over",
    "rate-limited": "it came too soon after others",
}
"""Codes of error messages: the message was not carried out because of this."""


def _close_codes() -> dict[str, Any]:
    meanings = {
        "1001": "The pod goes away",
        "1002": "The client broke the protocol (RFC 6455)",
        "1007": "A text message was not UTF-8",
        "1008": "Messages came too fast, and went on after `rate-limited`",
        "1009": "A message was too large to be read at all",
        "1012": "The pod stops, with no time to say when to come back",
        "4001": "The token expired, or its session was revoked",
        "4008": "Too slow: the client took nothing of what waited for it",
        "4009": "Too many connections of the user that `auth` named",
    }
    return {code: {"description": text, "reason": _STRING} for code, text in meanings.items()} | {
        "1001": {"description": meanings["1001"], "reason": _RETRY}
    }


def _refusals() -> dict[str, Any]:
    return {
        "401": "The offered token is wrong, expired or revoked",
        "429": "The user or the address holds as many connections as it may; with `Retry-After`",
        "503": "This pod goes away or holds as many connections as it can; another may take it, with `Retry-After`",
    }


def _message(
    kind: str, summary: str, example: dict[str, Any] | None = None, properties: dict[str, Any] | None = None
) -> dict[str, Any]:
    fields = properties or {}
    return {
        "name": kind,
        "summary": summary,
        "contentType": "application/json",
        "payload": {
            "type": "object",
            "required": ["type", *fields],
            "properties": {"type": {"const": kind}, **fields},
        },
        "examples": [{"payload": {"type": kind, **(example or {})}}],
    }


def _messages(beat: str) -> dict[str, Any]:
    time = "2026-01-01T12:00:00.123456Z"
    place = {"userId": "ann", "username": "Ann", "score": 120, "rank": 1}
    return {
        "snapshot": _message(
            "snapshot",
            "The whole top of a board. A new epoch is larger, within one the version only grows",
            {"board": "default", "epoch": 1, "version": 42, "rankings": [place], "lastUpdated": time},
            {
                "board": _STRING,
                "epoch": {"type": "integer"},
                "version": {"type": "integer"},
                "rankings": {"type": "array", "items": _RANKING},
                "lastUpdated": _TIME,
            },
        ),
        "heartbeat": _message("heartbeat", f"Every {beat} s, besides protocol pings", {"time": time}, {"time": _TIME}),
        "pong": _message("pong", "Answer to `ping`"),
        "error": _message(
            "error",
            "A message was not carried out; the connection stays",
            {"code": "board-unknown", "detail": "there is no board 'weekly'"},
            {
                "code": {
                    "enum": list(ERRORS),
                    "description": "; ".join(f"`{code}`: {text}" for code, text in ERRORS.items()),
                },
                "detail": _STRING,
            },
        ),
        "subscribe": _message(
            "subscribe",
            "Add boards; each is answered with a snapshot",
            {"boards": ["default"]},
            {"boards": _BOARDS},
        ),
        "unsubscribe": _message(
            "unsubscribe", "Take boards away; not answered", {"boards": ["default"]}, {"boards": _BOARDS}
        ),
        "ping": _message("ping", "Ask for a `pong`"),
        "auth": _message(
            "auth",
            "Renew the access token, or name the user; not answered unless it is an error",
            {"token": "an.access.token"},
            {"token": _STRING},
        ),
    }


def _operation(channel: str, action: str, summary: str, *kinds: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{channel}/messages/{kind}"} for kind in kinds],
    }


def _server(protocol: str, plain: str) -> dict[str, Any]:
    return {
        "host": "{host}",
        "protocol": protocol,
        "description": f"The Scoreboard's gateway; `{plain}` where its `status.url` begins with `http:`",
        "variables": {"host": {"description": "Host and port of the Scoreboard's `status.url`"}},
    }


def _websocket(settings: WatchSettings) -> dict[str, Any]:
    offered = "`podium.v1`, assumed where none is offered, and at will `bearer.<access token>`, which is never echoed"
    return {
        "address": "/ws/scoreboard",
        "servers": [{"$ref": "#/servers/websocket"}],
        "description": (
            f"The board `default` is sent at once. Client messages hold at most {settings.ws_max_message_bytes} bytes, "
            f"and may come {FRAMES_PER_SECOND} a second, {BURST} at once; one that is split counts as many. A client "
            f"that sends no frame for {2 * settings.ws_heartbeat_seconds:g} s, pongs included, is dropped."
        ),
        "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in _messages("")},
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {"Sec-WebSocket-Protocol": {"type": "string", "description": offered}},
                },
                "bindingVersion": "0.1.0",
            }
        },
        "x-closeCodes": _close_codes(),
        "x-refusals": _refusals(),
    }


def _stream(beat: str) -> dict[str, Any]:
    return {
        "address": "/api/v1/scoreboard/stream",
        "servers": [{"$ref": "#/servers/http"}],
        "description": (
            "Server-Sent Events of one board (query `board`, `default` if it is left out): `event: snapshot`, "
            f"`id: <epoch>:<version>`, the message as `data`. A comment each {beat} s is the heartbeat, `retry` the "
            "time to come back after where a pod goes away."
        ),
        "messages": {"snapshot": {"$ref": "#/components/messages/snapshot"}},
        "x-refusals": {"400": "There is no such board, or the query is wrong", **_refusals()},
    }


def describe(settings: WatchSettings) -> dict[str, Any]:
    """The document; actions are the server's (``send``: from server to client)."""
    beat = f"{settings.ws_heartbeat_seconds:g}"
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Podium scoreboard",
            "version": "1",
            "description": "Live tops. Ignore a snapshot that is not newer than what you show.",
        },
        "servers": {"websocket": _server("wss", "ws"), "http": _server("https", "http")},
        "defaultContentType": "application/json",
        "channels": {"scoreboard": _websocket(settings), "stream": _stream(beat)},
        "operations": {
            "watch": _operation("scoreboard", "send", "What the server says", "snapshot", "heartbeat", "pong", "error"),
            "control": _operation(
                "scoreboard", "receive", "What a client may say", "subscribe", "unsubscribe", "ping", "auth"
            ),
            "follow": _operation("stream", "send", "What the server says on a stream", "snapshot"),
        },
        "components": {"messages": _messages(beat)},
    }
