"""What a CDN in front is told, and how it is told of changes, in the resource's model. Pure."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from podium_operator.spec_base import Duration, Model, SecretRef, rules

_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"

PURGE_URL_PATTERN = rf'^https?://[A-Za-z0-9]([A-Za-z0-9.-]{{0,251}}[A-Za-z0-9])?(:{_PORT})?(/[!"$-~]*)?$'
"""Host, port and path: no user, password, fragment or white space."""


class Purge(Model):
    """The call that empties a CDN of a board's ranking."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.url.startsWith('https://') || self.form in ['Signed', 'Bearer']",
                "the APIs of Fastly and Cloudflare are reached by https only; write purge.url with https",
            ),
        )
    )
    url: str = Field(
        max_length=2000,
        pattern=PURGE_URL_PATTERN,
        description="Where the call goes: a CDN's own purge API, a cache, or a relay of yours.",
        json_schema_extra=rules(
            (
                f"self.matches('{PURGE_URL_PATTERN}')",
                "write purge.url as https://host/path, or http within a trusted network, without user, password, "
                "fragment and spaces; the token belongs into the Secret",
            )
        ),
    )
    secret_ref: SecretRef = Field(
        description="Secret with the key token: what the CDN knows the caller by; for the form Signed the key of the "
        "signature."
    )
    form: Literal["Signed", "Bearer", "Fastly", "Cloudflare"] = Field(
        default="Signed",
        description="Signed: a POST signed by RFC 9421. Bearer: the same with the token as Authorization. Fastly: the "
        "header Fastly-Key. Cloudflare: Bearer, and the body that its API wants. See docs/cdn.md.",
    )
    min_interval: Duration = Field(
        default="1s", description="Least time between two calls for one board, of all projectors together."
    )


class Cdn(Model):
    """Caching of rankings by a CDN in front."""

    s_max_age: Duration = Field(
        default="1s", alias="sMaxAge", description="How long a shared cache may serve a ranking (s-maxage)."
    )
    stale_while_revalidate: Duration = Field(
        default="5s", description="How long it may serve it stale while it fetches a new one."
    )
    stale_if_error: Duration = Field(
        default="60s",
        description="How long it may serve it stale while the Scoreboard answers with errors or not at all.",
    )
    purge: Purge | None = Field(
        default=None, description="A call that purges a board when its top changes; none is made if absent."
    )
