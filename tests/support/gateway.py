"""The gateway as the operator renders it, as processes on 127.0.0.1: Envoy, and the rate-limit service."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import yaml

from podium.common.settings import RedisSettings
from podium_operator.builders import envoy, envoy_routes, ratelimit
from podium_operator.spec import Security
from tests.support.processes import Process, find_binary, free_ports


def ratelimit_process(
    directory: Path, redis: RedisSettings, security: Security, ports: tuple[int, int, int, int]
) -> Process:
    """The rate-limit service with the limits of a spec; the ports are those of gRPC, HTTP, debugging and metrics."""
    grpc, http, debug, metrics = ports
    rules = directory / "runtime" / "ratelimit" / "config"
    rules.mkdir(parents=True)
    (rules / "limits.yaml").write_text(yaml.safe_dump(ratelimit.limits(security)))
    environment = {
        **ratelimit.environment(str(redis.nodes), str(directory / "runtime")),
        "REDIS_AUTH": redis.password.get_secret_value(),
        "GRPC_PORT": str(grpc),
        "PORT": str(http),
        "DEBUG_PORT": str(debug),
        "PROMETHEUS_ADDR": f"127.0.0.1:{metrics}",
    }
    return Process([find_binary("ratelimit")], directory / "ratelimit.log",
                   lambda: _answers(f"http://127.0.0.1:{http}/healthcheck"), env=environment)  # fmt: skip


def envoy_process(directory: Path, settings: envoy.Settings) -> Process:
    """Envoy with the rendered configuration."""
    config = directory / "envoy.json"
    config.write_text(json.dumps(envoy.configuration(settings)))
    command = [find_binary("envoy"), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"]
    ready = f"http://127.0.0.1:{settings.internal_port}/healthz/ready"
    return Process(command, directory / "envoy.log", lambda: _answers(ready))


def _answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url).status_code == 200
    return False


class ScoreboardGateway:
    """A whole gateway before one scoreboard service (``host:port``); nothing stands behind the other paths.

    ``trusted_proxies`` are networks of caches in front, as in ``gateway.trustedProxies``.
    """

    def __init__(
        self,
        directory: Path,
        redis: RedisSettings,
        security: Security,
        address: str,
        jwks: str,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        plain, proxied, internal, admin, grpc, http, debug, metrics = free_ports(8)
        host, _, port = address.partition(":")
        keys = directory / "jwks.json"
        keys.write_text(jwks)
        endpoints: Mapping[str, tuple[str, int]] = dict.fromkeys(envoy_routes.SERVICES, (host, int(port)))
        self.url = f"http://127.0.0.1:{plain}"
        self._ratelimit = ratelimit_process(directory, redis, security, (grpc, http, debug, metrics))
        self._envoy = envoy_process(
            directory,
            envoy.Settings(
                endpoints={**endpoints, ratelimit.COMPONENT: ("127.0.0.1", grpc)},
                jwks_path=str(keys),
                trusted_proxies=tuple(trusted_proxies),
                plain_port=plain,
                proxied_port=proxied,
                internal_port=internal,
                admin_port=admin,
                address="127.0.0.1",
            ),
        )

    def start(self) -> None:
        """Start both and return when they answer. Raises ServerFailed."""
        for process in (self._ratelimit, self._envoy):
            process.start()
        for process in (self._ratelimit, self._envoy):
            process.wait_ready()

    def stop(self) -> None:
        """End both at once."""
        self._envoy.kill()
        self._ratelimit.kill()
