"""What the OpenAPI document says about the score update, beyond what FastAPI sees in the route."""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from podium.common.problems import documented
from podium.scores.domain_body import MAX_ACTION_ID_CHARACTERS


class ScoreUpdated(BaseModel):
    """The update was counted, durably."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    action_id: str
    user_id: str
    username: str
    score: int = Field(description="the user's score on the action's first board")
    score_increase: int
    total_actions: int = Field(description="updates of this user accepted so far")
    tier: str | None = Field(description="name of the highest tier reached, null below the lowest")
    last_updated: str = Field(description="when the update was accepted, RFC 3339", examples=["2026-01-01T00:00:00.5Z"])


_REQUEST_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["actionId", "actionMetadata"],
    "properties": {
        "actionId": {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ACTION_ID_CHARACTERS,
            "description": "unique per user; the same id with the same body again gives the first answer",
        },
        "actionMetadata": {
            "type": "object",
            "additionalProperties": False,
            "required": ["type", "timestamp", "additionalData"],
            "properties": {
                "type": {"type": "string", "description": "one of the Scoreboard's actions"},
                "timestamp": {"type": "string", "format": "date-time", "description": "at most 300 s off"},
                "additionalData": {"description": "whatever the action's schema asks for"},
            },
        },
    },
}


def _header(name: str, description: str, *, required: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


REQUEST: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": _REQUEST_SCHEMA}}},
    "security": [{"accessToken": ["scores:write"]}],
    "parameters": [
        _header("Content-Digest", "RFC 9530: `sha-256=:<base64>:` of the body"),
        _header(
            "Signature-Input",
            'RFC 9421: `sig1=("@method" "@path" "content-digest" "authorization")` with the parameters `created` (at '
            'most 300 s off), `nonce` (1 to 128 characters, good once), `keyid` and `alg="hmac-sha256"`',
        ),
        _header("Signature", "RFC 9421: `sig1=:<base64>:`"),
    ],
}

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Counted, and durable",
        "model": ScoreUpdated,
        "headers": {
            "Idempotent-Replayed": {
                "description": "`true` where this repeats the first answer; nothing was counted again",
                "schema": {"type": "string"},
            },
            "RateLimit": {"description": "what is left of the user's limit", "schema": {"type": "string"}},
            "RateLimit-Policy": {"description": "the user's limit", "schema": {"type": "string"}},
        },
    },
    **documented(
        (400, "malformed-request"),
        (400, "digest-mismatch"),
        (401, "token-missing"),
        (401, "token-invalid"),
        (401, "token-expired"),
        (401, "signature-missing"),
        (401, "signature-invalid"),
        (401, "replayed-nonce"),
        (403, "scope-missing"),
        (403, "user-banned"),
        (403, "blocked-by-anomaly"),
        (413, "body-too-large"),
        (415, "unsupported-media-type"),
        (422, "unknown-action"),
        (422, "invalid-action-data"),
        (422, "stale-timestamp"),
        (422, "action-id-reused"),
        (429, "rate-limited"),
        (503, "database-unavailable"),
        (503, "dependency-unavailable"),
    ),
}


def document_security(app: FastAPI) -> None:
    """Describe the access token as the other services do; here the gate checks it, so no dependency brings it along."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes["accessToken"] = {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "Access token of the token endpoint",
        }
        return document

    app.openapi = openapi  # type: ignore[method-assign]
