"""What the projector gets for `spec.cdn.purge`: where to call, the token, and the way out. Pure.

The token is mounted from the user's own Secret. It may be missing: then nothing is purged, the projector
and the operator's conditions say so, and it is used as soon as it is there, without a restart.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from podium_operator.builders.base import Inputs, tcp
from podium_operator.builders.config import SECRETS_PATH
from podium_operator.spec import JSON, ScoreboardSpec, seconds

TOKEN = "token"  # noqa: S105 (a name of a key)
"""Key of the Secret."""

_VOLUME = "secret-purge"
_PATH = f"{SECRETS_PATH}/purge"
_PORTS = {"http": 80, "https": 443}


def environment(inputs: Inputs) -> list[JSON]:
    """Environment entries of the container."""
    purge = inputs.spec.cdn.purge
    if purge is None:
        return []
    values = {
        "PODIUM_CDN_PURGE_URL": purge.url,
        "PODIUM_CDN_PURGE_FORM": purge.form,
        "PODIUM_CDN_PURGE_MIN_INTERVAL_SECONDS": str(seconds(purge.min_interval)),
        "PODIUM_CDN_PURGE_TOKEN_FILE": f"{_PATH}/{TOKEN}",
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def volumes(inputs: Inputs) -> list[JSON]:
    """The volume with the token."""
    purge = inputs.spec.cdn.purge
    if purge is None:
        return []
    items = [{"key": TOKEN, "path": TOKEN}]
    secret = {"secretName": purge.secret_ref.name, "defaultMode": 0o440, "items": items, "optional": True}
    return [{"name": _VOLUME, "secret": secret}]


def mounts(inputs: Inputs) -> list[JSON]:
    """Where the container finds it."""
    return [{"name": _VOLUME, "mountPath": _PATH, "readOnly": True}] if inputs.spec.cdn.purge else []


def egress(inputs: Inputs) -> list[JSON]:
    """Egress rule to the port of the address, wherever it is: a policy knows no host names."""
    purge = inputs.spec.cdn.purge
    if purge is None:
        return []
    parts = urlsplit(purge.url)
    return [{"ports": tcp(parts.port or _PORTS[parts.scheme])}]


def problem(spec: ScoreboardSpec, data: Mapping[str, str] | None) -> str:
    """Why nothing can be purged with the Secret's data (None: there is no Secret), for a person; empty if it can."""
    purge = spec.cdn.purge
    if purge is None:
        return ""
    where = f"cdn.purge: Secret {purge.secret_ref.name}"
    if data is None:
        return f"{where} does not exist; make it with the key {TOKEN}"
    token = data.get(TOKEN, "").strip()
    if not token:
        return f"{where} has no key {TOKEN}; add it"
    if not token.isascii() or not token.isprintable():
        return f"{where}: {TOKEN} must be one line of printable ASCII characters"
    return ""
