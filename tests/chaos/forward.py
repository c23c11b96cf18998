"""A way to one pod's port that does not hold up the event loop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.instance import Instance


@contextlib.asynccontextmanager
async def forwarded(instance: Instance, target: str, port: int) -> AsyncIterator[int]:
    """A port of 127.0.0.1 that leads to ``port`` of ``target`` (``pod/NAME``) inside the block.

    Raises AssertionError where there is no way to it.
    """
    forward = instance.port_forward(target, port)
    begun = asyncio.ensure_future(asyncio.to_thread(forward.__enter__))
    try:
        local = await asyncio.shield(begun)
    except asyncio.CancelledError:
        # kubectl was started in a thread, which cannot be cancelled: wait for it, or it would stay.
        with contextlib.suppress(AssertionError):
            await begun
            forward.__exit__(None, None, None)
        raise
    try:
        yield local
    finally:
        forward.__exit__(None, None, None)
