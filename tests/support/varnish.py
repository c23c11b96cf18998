"""Varnish on 127.0.0.1 with ``examples/varnish.vcl``: a real shared cache in front of an origin."""

import http.client
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.apps import ROOT
from tests.support.processes import Process, find_binary, free_ports

PACKAGE = {"varnish": "/usr/sbin/varnishd"}
"""The Debian package, and a path that shows it is installed (``podium_dev.toolchain.ensure_debian_packages``)."""

EXAMPLE = ROOT / "examples" / "varnish.vcl"

COUNTERS = ("cache_hit", "cache_hit_grace", "cache_miss", "backend_req", "s_synth", "client_req")
"""Of varnish-counters(7), group MAIN."""


@dataclass(frozen=True)
class Origin:
    """Where Varnish fetches: host and port."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> "Origin":
        """The origin of a plain HTTP address."""
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"Varnish fetches by plain HTTP only, not from {url}")
        return cls(parts.hostname, parts.port or 80)


def configuration(origin: Origin, token: Path, stale_seconds: float) -> str:
    """The example's VCL for another origin, file with the token, and time of ``cdn.staleWhileRevalidate``.

    Raises ValueError if the example has changed.
    """
    text = EXAMPLE.read_text(encoding="utf-8")
    for before, after in (
        ('.host = "arcade-gateway.podium-demo.svc";', f'.host = "{origin.host}";'),
        ('.port = "80";', f'.port = "{origin.port}";'),
        ("/etc/varnish/podium-token", str(token)),
        ("set req.grace = 5s;", f"set req.grace = {stale_seconds:g}s;"),
    ):
        if text.count(before) != 1:
            raise ValueError(f"{EXAMPLE} does not have {before!r} exactly once")
        text = text.replace(before, after)
    return text


class Varnish:
    """One cache, in memory. Its files, and that with the token for purges, lie in ``directory``.

    ``stale_seconds`` has to be what the origin says in ``stale-while-revalidate``.
    """

    def __init__(self, origin: Origin, directory: Path, token: str, stale_seconds: float = 5.0) -> None:
        self.port, self._admin = free_ports(2)
        self.url = f"http://127.0.0.1:{self.port}"
        self.purge_url = f"{self.url}/purge"
        self._work = directory / f"varnish-{self.port}"
        self._work.mkdir()
        secret, self._vcl = directory / f"varnish-{self.port}.token", directory / f"varnish-{self.port}.vcl"
        secret.write_text(token + "\n")
        self._vcl.write_text(configuration(origin, secret, stale_seconds))
        options = {"-n": self._work, "-f": self._vcl, "-a": f"127.0.0.1:{self.port}", "-s": "malloc,64m", "-j": "none"}
        command = [find_binary("varnishd"), "-F", "-T", f"127.0.0.1:{self._admin}"]
        command += [str(part) for option in options.items() for part in option]
        command += ["-p", "thread_pools=1", "-p", "thread_pool_min=20", "-p", "vsl_space=16m"]
        self.process = Process(command, directory / f"varnish-{self.port}.log", self._answers)

    def start(self) -> None:
        """Compile the VCL and return when it answers. Raises ServerFailed."""
        self.process.start()
        self.process.wait_ready()

    def stop(self) -> None:
        """End it."""
        self.process.stop()

    def counters(self) -> Mapping[str, int]:
        """``COUNTERS`` as they are now; ``backend_req`` counts what the origin was asked for."""
        fields = [part for name in COUNTERS for part in ("-f", f"MAIN.{name}")]
        found = subprocess.run(
            [find_binary("varnishstat"), "-n", str(self._work), "-j", *fields], check=True, capture_output=True
        )
        values = json.loads(found.stdout)["counters"]
        return {name: int(values[f"MAIN.{name}"]["value"]) for name in COUNTERS}

    def _answers(self) -> bool:
        """Whether it takes requests, which it shows by refusing a purge: the origin is not asked for that."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/purge")
            return connection.getresponse().status == http.client.FORBIDDEN
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
