"""`python -m podium_operator.connection_metrics`: serve the autoscaler's metric until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal

from podium_operator import logs
from podium_operator.cluster import Cluster
from podium_operator.connection_metrics.service import MetricsService
from podium_operator.connection_metrics.settings import MetricsSettings


async def _serve(settings: MetricsSettings) -> None:
    cluster = await Cluster.connect()
    work = asyncio.create_task(MetricsService(cluster, settings).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work
    finally:
        await cluster.close()


def main() -> None:
    """Run until a signal comes."""
    settings = MetricsSettings()  # type: ignore[call-arg]  # from the environment
    logs.as_json(settings.log_level)
    asyncio.run(_serve(settings))


if __name__ == "__main__":
    main()
