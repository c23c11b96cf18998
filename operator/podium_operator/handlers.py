"""kopf handlers: every watch leads to a wake-up of the Scoreboard concerned, and to nothing else.

Only `on.event` handlers are used, so kopf writes no annotations and no finalizers.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import kopf
from aiohttp import web

from podium_operator.builders.base import APP, MANAGER
from podium_operator.cluster import OWNED, SCOREBOARD, SECRET, Cluster, Refused
from podium_operator.leftovers import sweep
from podium_operator.reconcile import reconcile
from podium_operator.settings import OperatorSettings
from podium_operator.watchdog import Watchdog
from podium_operator.workers import Key, Workers

log = logging.getLogger(__name__)

INSTANCE_LABEL = "app.kubernetes.io/instance"
STORE_FIELDS = ("redis", "nats", "postgres")
"""Fields of the spec that may name the Secret of an external store."""

LIST_SECONDS = 15.0
"""How often all Scoreboards are listed, besides the watch."""


class Operator:
    """One running operator: its connection, its workers and its watchdog."""

    def __init__(self, settings: OperatorSettings) -> None:
        self.settings = settings
        self.watchdog = Watchdog(time.monotonic)
        self.workers = Workers(self._reconcile, settings.resync_seconds)
        self.cluster: Cluster | None = None
        self._named: dict[Key, set[Key]] = {}
        """Secret of a client, of an external store or of the CDN → Scoreboards that name it."""
        self._lister: asyncio.Task[None] | None = None
        self._site: web.AppRunner | None = None

    async def _reconcile(self, namespace: str, name: str) -> float | None:
        assert self.cluster is not None
        return await reconcile(self.cluster, self.settings, namespace, name)

    async def start(self) -> None:
        """Connect, serve health and begin to list."""
        self.cluster = await Cluster.connect()
        app = web.Application()
        app.add_routes([web.get("/healthz/live", self._live), web.get("/healthz/ready", self._live)])
        self._site = web.AppRunner(app, handle_signals=False, access_log=None)
        await self._site.setup()
        await web.TCPSite(self._site, "0.0.0.0", self.settings.health_port).start()
        self._lister = asyncio.create_task(self._list_forever(), name="list Scoreboards")

    async def stop(self) -> None:
        """End everything that `start` began."""
        if self._lister is not None:
            self._lister.cancel()
            await asyncio.gather(self._lister, return_exceptions=True)
        await self.workers.stop()
        if self._site is not None:
            await self._site.cleanup()
        if self.cluster is not None:
            await self.cluster.close()

    async def _live(self, _: web.Request) -> web.Response:
        problems = self.watchdog.problems()
        return web.json_response({"status": "ok" if not problems else "unavailable", "missing": problems},
                                 status=200 if not problems else 503)  # fmt: skip

    async def _list_forever(self) -> None:
        """Find Scoreboards that no watch told of, and feed the watchdog."""
        assert self.cluster is not None
        while True:
            try:
                versions: dict[Key, str] = {}
                everywhere: list[str | None] = [None]
                for namespace in self.settings.namespaces() or everywhere:
                    for item in await self.cluster.find(SCOREBOARD, namespace):
                        meta = item["metadata"]
                        versions[(meta["namespace"], meta["name"])] = meta["resourceVersion"]
                self.watchdog.listed(versions)
                for key in versions.keys() - self.workers.known():
                    self.workers.wake(*key)
                for key in self.workers.known() - versions.keys():
                    self.workers.forget(*key)
                for namespace in self.settings.namespaces() or everywhere:
                    await sweep(self.cluster, namespace, versions.keys())
            except (Refused, OSError, TimeoutError) as error:
                log.warning("Scoreboards could not be listed: %s", error)
            await asyncio.sleep(LIST_SECONDS)

    def scoreboard_event(self, kind: str | None, body: Any) -> None:
        """A Scoreboard came, changed or went."""
        meta = body["metadata"]
        key = (meta["namespace"], meta["name"])
        if kind == "DELETED":
            self.watchdog.gone(key)
            self.workers.forget(*key)
            return
        self.watchdog.delivered(key, meta["resourceVersion"])
        for holders in self._named.values():
            holders.discard(key)
        spec = body.get("spec", {})
        stores = (spec.get(store, {}).get("external", {}) for store in STORE_FIELDS)
        purge = spec.get("cdn", {}).get("purge", {})
        for part in (*spec.get("security", {}).get("clients", []), *stores, purge):
            secret = part.get("secretRef", {}).get("name", "")
            self._named.setdefault((key[0], secret), set()).add(key)
        self.workers.wake(*key)

    def owned_event(self, body: Any) -> None:
        """Something that was made for a Scoreboard changed."""
        meta = body["metadata"]
        key = (meta["namespace"], meta.get("labels", {}).get(INSTANCE_LABEL, ""))
        if key in self.workers.known():
            self.workers.wake(*key)

    def secret_event(self, body: Any) -> None:
        """A Secret changed: one that was made for a Scoreboard, or one that its spec names."""
        meta = body["metadata"]
        if meta.get("labels", {}).get("app.kubernetes.io/managed-by") == MANAGER:
            self.owned_event(body)
        for key in self._named.get((meta["namespace"], meta["name"]), set()):
            self.workers.wake(*key)


def register(operator: Operator) -> kopf.OperatorRegistry:
    """A kopf registry with all handlers."""
    registry = kopf.OperatorRegistry()

    async def startup(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # events are written by the recorder
        settings.scanning.disabled = True  # the kinds are known; no rights on CRDs and namespaces needed
        settings.watching.server_timeout = 270
        settings.watching.client_timeout = 300
        settings.watching.connect_timeout = 30
        await operator.start()

    async def cleanup(**_: Any) -> None:
        await operator.stop()

    async def on_scoreboard(type: str | None, body: Any, **_: Any) -> None:  # noqa: A002 (kopf's name)
        operator.scoreboard_event(type, body)

    async def on_owned(body: Any, **_: Any) -> None:
        operator.owned_event(body)

    async def on_secret(body: Any, **_: Any) -> None:
        operator.secret_event(body)

    async def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    kopf.on.login(registry=registry)(login)
    kopf.on.startup(registry=registry)(startup)
    kopf.on.cleanup(registry=registry)(cleanup)
    kopf.on.event("podium.dev", "v1alpha1", "scoreboards", registry=registry)(on_scoreboard)
    ours = {"app.kubernetes.io/name": APP, "app.kubernetes.io/managed-by": MANAGER}
    for kind in OWNED:
        group, _, version = kind.api_version.rpartition("/")
        kopf.on.event(group, version, kind.plural, labels=ours, registry=registry)(on_owned)
    kopf.on.event("", SECRET.api_version, SECRET.plural, registry=registry)(on_secret)
    return registry
