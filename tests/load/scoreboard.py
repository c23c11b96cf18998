"""The Scoreboard of ``examples/bench.yaml``: what services and opponents are told, and the keys of its users."""

import base64
import json
import secrets
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from podium_operator.builders import config, nats, patroni, redis
from podium_operator.builders.base import Images, Inputs
from podium_operator.spec import ScoreboardSpec
from tests.support.stores import Overrides

ROOT = Path(__file__).parents[2]
"""The repository's root."""

EXAMPLE = ROOT / "examples" / "bench.yaml"

TOKEN_SECONDS = 4 * 3600
"""Life of the users' tokens, in seconds; no run lasts longer, and a renewal is not what is measured."""


@cache
def inputs() -> Inputs:
    """The resource as the operator sees it."""
    documents = yaml.safe_load_all(EXAMPLE.read_text())
    resource = next(each for each in documents if each["kind"] == "Scoreboard")
    images = Images(*(f"bench/{name}:none" for name in ("podium", "redis", "nats", "postgres", "envoy", "ratelimit")))
    spec = ScoreboardSpec.model_validate(resource["spec"])
    return Inputs(resource["metadata"]["name"], resource["metadata"]["namespace"], spec, images, "bench")


def durable() -> Overrides:
    """What the operator would set for these stores; nothing that makes them flush is left out."""
    spec = inputs().spec
    postgres = {name: str(value) for name, value in patroni.server_parameters(spec.postgres).items()}
    postgres |= {"fsync": "on", "full_page_writes": "on", "wal_level": "replica", "wal_log_hints": "on"}
    postgres |= {"max_connections": "200", "unix_socket_directories": "", "shared_preload_libraries": ""}
    lines = (line.split(" ", 1) for line in redis.configuration(spec.redis).splitlines())
    kept = ("append", "auto-aof", "maxmemory", "repl-backlog", "cluster-require", "cluster-allow")
    jetstream = {"sync_interval": "always"} if "sync_interval: always" in nats.configuration(inputs()) else {}
    return Overrides(
        postgres, {name: value for name, value in lines if name.startswith(kept)}, {**jetstream, "max_file": "8GB"}
    )


@dataclass(frozen=True)
class Keys:
    """What the auth service would hold: the key of tokens and the master of signing keys."""

    private: Ed25519PrivateKey
    master: bytes
    issued_at: int

    @classmethod
    def generate(cls) -> "Keys":
        """New keys; the tokens of a run are all issued now."""
        return cls(Ed25519PrivateKey.generate(), secrets.token_bytes(32), int(time.time()))

    def environment(self) -> dict[str, str]:
        """The variables that a verifier of tokens and signatures needs."""
        public = {**json.loads(OKPAlgorithm.to_jwk(self.private.public_key())), "kid": "bench", "alg": "EdDSA"}
        master = base64.urlsafe_b64encode(self.master).rstrip(b"=").decode()
        return {
            "PODIUM_JWT_JWKS": json.dumps({"keys": [{**public, "use": "sig"}]}),
            "PODIUM_SIGNING_MASTER": json.dumps({"current": "1", "keys": {"1": master}}),
        }

    def for_generator(self) -> dict[str, Any]:
        """The same for the load generator, which opens the users' sessions itself."""
        settings = environment()
        return {
            "issuer": settings["PODIUM_JWT_ISSUER"],
            "audience": settings["PODIUM_JWT_AUDIENCE"],
            "keyId": "bench",
            "seed": base64.b64encode(self.private.private_bytes_raw()).decode(),
            "masterVersion": "1",
            "master": base64.b64encode(self.master).decode(),
            "issuedAt": self.issued_at,
            "expiresAt": self.issued_at + TOKEN_SECONDS,
        }


@cache
def environment() -> dict[str, str]:
    """The services' variables as the operator would set them, without those that name the stores."""
    values = {name: value for name, value in config.environment(inputs()).items() if not name.endswith("_FILE")}
    stores = ("PODIUM_DATABASE", "PODIUM_REDIS", "PODIUM_NATS")
    values = {name: value for name, value in values.items() if not name.startswith(stores)}
    rules = config.rules(inputs())
    return values | {f"PODIUM_{name}": rules[f"{name.lower()}.json"] for name in ("BOARDS", "ACTIONS", "TIERS")}
