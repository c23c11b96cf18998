"""The AsyncAPI 3 description of the WebSocket."""

from typing import Any

from podium.scoreboard.settings import WatchSettings

_STRING = {"type": "string"}
_BOARDS = {"type": "array", "items": _STRING, "minItems": 1}

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


def _message(kind: str, summary: str, properties: dict[str, Any] | None = None) -> dict[str, Any]:
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
    }


def _operation(action: str, summary: str, *kinds: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/scoreboard"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/scoreboard/messages/{kind}"} for kind in kinds],
    }


def describe(settings: WatchSettings) -> dict[str, Any]:
    """The document; actions are the server's (``send``: from server to client)."""
    beat = f"{settings.ws_heartbeat_seconds:g}"
    messages = {
        "snapshot": _message(
            "snapshot",
            "The whole top of a board. A new epoch is larger, within one the version only grows",
            {
                "board": _STRING,
                "epoch": {"type": "integer"},
                "version": {"type": "integer"},
                "rankings": {"type": "array", "items": _RANKING},
                "lastUpdated": {"type": "string", "format": "date-time"},
            },
        ),
        "heartbeat": _message(
            "heartbeat", f"Every {beat} s, besides protocol pings", {"time": {"type": "string", "format": "date-time"}}
        ),
        "pong": _message("pong", "Answer to `ping`"),
        "error": _message(
            "error",
            "A message was not carried out; the connection stays",
            {
                "code": {
                    "enum": [
                        "malformed-message",
                        "message-too-large",
                        "unknown-type",
                        "board-unknown",
                        "token-invalid",
                        "token-expired",
                    ]
                },
                "detail": _STRING,
            },
        ),
        "subscribe": _message("subscribe", "Add boards; each is answered with a snapshot", {"boards": _BOARDS}),
        "unsubscribe": _message("unsubscribe", "Take boards away", {"boards": _BOARDS}),
        "ping": _message("ping", "Ask for a `pong`"),
        "auth": _message("auth", "Renew the access token; not answered unless it is an error", {"token": _STRING}),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Podium scoreboard",
            "version": "1",
            "description": (
                "Live tops over WebSocket, subprotocol `podium.v1`. An access token is optional and offered as a "
                "second subprotocol `bearer.<jwt>`, which is never echoed. Before the upgrade: 401 for a wrong token, "
                "429 for too many connections, 503 while a pod goes away. Close codes: 1001 going away, with reason "
                '`{"retryAfterMs":n}`; 4001 token expired or revoked; 4008 too slow; 4009 too many connections. Client '
                f"messages hold at most {settings.ws_max_message_bytes} bytes. A client that sends no frame for "
                f"{2 * settings.ws_heartbeat_seconds:g} s, pongs included, is dropped."
            ),
        },
        "servers": {"gateway": {"host": "localhost", "protocol": "ws", "description": "The Scoreboard's gateway"}},
        "defaultContentType": "application/json",
        "channels": {
            "scoreboard": {
                "address": "/ws/scoreboard",
                "messages": {kind: {"$ref": f"#/components/messages/{kind}"} for kind in messages},
                "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
            }
        },
        "operations": {
            "watch": _operation("send", "What the server says", "snapshot", "heartbeat", "pong", "error"),
            "control": _operation("receive", "What a client may say", "subscribe", "unsubscribe", "ping", "auth"),
        },
        "components": {"messages": messages},
    }
