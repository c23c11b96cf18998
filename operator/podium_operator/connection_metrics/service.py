"""The life of the process: its certificate, its listener, its registration, each kept as it should be. Does I/O."""

from __future__ import annotations

import asyncio
import logging
import ssl
from datetime import UTC, datetime

import aiohttp
from aiohttp import web

from podium_operator.cluster import CONFIG_MAP, Cluster, Conflict, Refused
from podium_operator.connection_metrics import certificate
from podium_operator.connection_metrics.access import Access
from podium_operator.connection_metrics.callers import (
    AUTHENTICATION_CONFIG,
    AUTHENTICATION_NAMESPACE,
    FrontProxy,
    NotPublished,
    Unauthenticated,
)
from podium_operator.connection_metrics.documents import GROUP
from podium_operator.connection_metrics.readings import Readings
from podium_operator.connection_metrics.registration import register
from podium_operator.connection_metrics.server import MetricsServer
from podium_operator.connection_metrics.settings import MetricsSettings

log = logging.getLogger(__name__)

KEEP_SECONDS = 30.0
"""How often certificate, authority and registration are looked at."""

RETRY_SECONDS = 2.0
"""Until the first time that all of it is right, and after a failure."""


class MetricsService:
    """One running metrics server."""

    def __init__(self, cluster: Cluster, settings: MetricsSettings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._certificate = certificate.make(settings.server_name)
        self._front_proxy: FrontProxy | None = None
        self._foreign: list[str] = []
        """Registrations of another adapter, because of which this one has stepped back."""
        self._problem = "the first look at the API server"
        server = MetricsServer(
            self._known_proxy, Access(cluster, GROUP), Readings(cluster, settings.pod_port), self.missing
        )
        self._runner = web.AppRunner(server.application(), handle_signals=False, access_log=None)
        self._site: web.TCPSite | None = None

    def missing(self) -> list[str]:
        """What keeps this process from its work, in words. Another adapter in its place is nothing that is missing."""
        return [self._problem] if self._problem else []

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._runner.setup()
        try:
            while True:
                await self.keep()
                await asyncio.sleep(RETRY_SECONDS if self._problem else KEEP_SECONDS)
        finally:
            await self._runner.cleanup()

    async def keep(self) -> None:
        """Look once, and set right what is not."""
        try:
            await self._listen()
            self._note(await register(self._cluster, self._settings, self._certificate.public))
            self._problem = ""
        except (Refused, Conflict, NotPublished, LookupError, aiohttp.ClientError, OSError, TimeoutError) as error:
            self._problem = f"the API server: {error}"
            log.warning("not registered: %s", error)

    async def _listen(self) -> None:
        """Serve with a certificate that is not old and the authority that is published now."""
        item = await self._cluster.get(CONFIG_MAP, AUTHENTICATION_NAMESPACE, AUTHENTICATION_CONFIG)
        published = FrontProxy.read((item or {}).get("data", {}))
        due = self._certificate.is_due(datetime.now(UTC))
        if due:
            self._certificate = certificate.make(self._settings.server_name)
        if self._site is not None and self._front_proxy == published and not due:
            return
        try:
            context = certificate.tls(self._certificate, published.authority)
        except ssl.SSLError as error:
            raise NotPublished(f"its authority cannot be read: {error}") from error
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self._front_proxy = published
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port, ssl_context=context)
        await site.start()
        self._site = site  # only now: a port that could not be had is tried again

    def _known_proxy(self) -> FrontProxy:
        if self._front_proxy is None:
            raise Unauthenticated("it is not known yet how the API server proves itself")
        return self._front_proxy

    def _note(self, foreign: list[str]) -> None:
        """Say it once, each time that it changes."""
        if foreign and foreign != self._foreign:
            log.warning(
                "another adapter serves %s: %s stay as they are; it must serve the metric itself (docs/operations.md)",
                GROUP,
                ", ".join(foreign),
            )
        elif not foreign and self._foreign:
            log.info("the other adapter is gone: registered")
        self._foreign = foreign
