"""The call that purges a board from a CDN, in each form that CDNs want. Pure.

=============  ==================================================  ==================================================
form           who calls                                           what to purge
=============  ==================================================  ==================================================
``Signed``     signature by RFC 9421, label ``sig1``,              ``Surrogate-Key``, and a JSON body
               ``hmac-sha256`` with the token as key
``Bearer``     ``Authorization: Bearer <token>`` (RFC 6750)        the same
``Fastly``     ``Fastly-Key: <token>``                             ``Surrogate-Key``
``Cloudflare`` ``Authorization: Bearer <token>``                   the body ``{"tags": [...]}``
=============  ==================================================  ==================================================

A signature covers ``"@method" "@target-uri" "content-digest" "surrogate-key"``, with the parameters ``created``,
``nonce``, ``keyid`` and ``alg``. The target is the address of the resource's spec in its normal form.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from podium.common.signing import ALGORITHM, LABEL, content_digest, sign_base
from podium.scoreboard.caching import board_tag
from podium.scoreboard.settings import PurgeForm

COMPONENTS: Final = '("@method" "@target-uri" "content-digest" "surrogate-key")'
"""What a signature covers (RFC 9421, section 2), in this order."""

_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Change:
    """A board's top is another: its present (epoch, version)."""

    board: str
    epoch: int
    version: int


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """The fields and the content of a POST."""

    headers: Mapping[str, str]
    body: bytes


def purge_request(
    form: PurgeForm, url: str, token: str, change: Change, *, keyid: str, created: int, nonce: str
) -> PurgeRequest:
    """The call for a change. ``keyid``, ``created`` (Unix seconds) and ``nonce`` are for a signature."""
    tag = board_tag(change.board)
    if form == "Fastly":
        return PurgeRequest({"Fastly-Key": token, "Surrogate-Key": tag, "Accept": "application/json"}, b"")
    bearer = {"Authorization": f"Bearer {token}"}
    if form == "Cloudflare":
        return PurgeRequest({**_JSON, **bearer}, msgspec.json.encode({"tags": [tag]}))
    body = msgspec.json.encode(
        {"surrogateKeys": [tag], "board": change.board, "epoch": change.epoch, "version": change.version}
    )
    fields = {**_JSON, "Surrogate-Key": tag}
    if form == "Bearer":
        return PurgeRequest({**fields, **bearer}, body)
    return PurgeRequest({**fields, **_signature(url, token, tag, body, keyid, created, nonce)}, body)


def _signature(url: str, key: str, tag: str, body: bytes, keyid: str, created: int, nonce: str) -> dict[str, str]:
    digest = content_digest(body)
    params = f'{COMPONENTS};created={created};nonce="{nonce}";keyid="{keyid}";alg="{ALGORITHM}"'
    base = (
        f'"@method": POST\n"@target-uri": {url}\n"content-digest": {digest}\n"surrogate-key": {tag}\n'
        f'"@signature-params": {params}'
    )
    return {
        "Content-Digest": digest,
        "Signature-Input": f"{LABEL}={params}",
        "Signature": f"{LABEL}=:{base64.b64encode(sign_base(key.encode(), base)).decode()}:",
    }
