"""Whether external stores can be reached. Does I/O: opens TCP connections and closes them, no more."""

from __future__ import annotations

import asyncio
import contextlib

from podium_operator.builders.base import External
from podium_operator.stores.status import StoreStatus

CONNECT_SECONDS = 2.0
"""Longest wait for one address."""


async def status(store: str, external: External) -> StoreStatus:
    """How the store looks from the operator's pod. Never raises.

    Any node of Redis or NATS will do, because clients find the others; of PostgreSQL the primary must answer, and its
    read replicas should.
    """
    if external.problem:
        return StoreStatus(False, external.problem)
    reached = await asyncio.gather(*(_reached(host, port) for host, port in external.addresses))
    serving = reached[0] if store == "postgres" else any(reached)
    ok = serving and (all(reached) or store != "postgres")
    if ok:
        return StoreStatus(True, f"as Secret {external.secret} describes it, and reached", serving=True)
    count = f"{reached.count(False)} of {len(reached)} addresses"
    return StoreStatus(False, f"{count} of Secret {external.secret} cannot be reached", serving=serving)


async def _reached(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS)
    except (OSError, TimeoutError, UnicodeError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
