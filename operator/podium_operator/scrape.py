"""What a pod says of itself at `/metrics`. Does I/O."""

from __future__ import annotations

import logging

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from podium_operator.builders.base import CONNECTIONS_METRIC, SERVICE_PORT
from podium_operator.spec import JSON

log = logging.getLogger(__name__)

SCRAPE_SECONDS = 2.0
"""Longest wait for the metrics of one pod."""

PLAYERS_METRIC = "podium_users"
"""Gauge of each analytics pod: users in the ranking, by board."""


async def scrape(session: aiohttp.ClientSession, pod: JSON, port: int = SERVICE_PORT) -> dict[str, float]:
    """Connections (of all kinds and agents) and players (of the largest board) of one pod, as far as it tells.

    Empty if it does not answer, which its own probes deal with.
    """
    address = pod["status"].get("podIP", "")
    host = f"[{address}]" if ":" in address else address
    try:
        async with session.get(f"http://{host}:{port}/metrics") as answer:
            answer.raise_for_status()
            return numbers(await answer.text())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        log.debug("no metrics from %s: %s", pod["metadata"]["name"], error)
        return {}


def numbers(text: str) -> dict[str, float]:
    """Connections and players in a page of metrics in the text format; what it does not have is absent.

    A pod that never had a watcher has no series of connections yet but names the metric: it holds none.
    Raises ValueError for a page in another form.
    """
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        values = [sample.value for sample in family.samples]
        if family.name == CONNECTIONS_METRIC:
            found[family.name] = sum(values)
        elif family.name == PLAYERS_METRIC and values:
            found[family.name] = max(values)
    return found
