"""Loops that end when they are told to."""

import asyncio


def heed_cancellation() -> None:
    """Raise CancelledError where the running task was told to end and something on the way has kept that to itself.

    In Python 3.11 ``asyncio.wait_for``, which NATS's client uses, loses a cancellation that comes just as its result
    does (python/cpython#86296); Redis' client loses one that comes while it looks for the nodes of a cluster. A loop
    that calls this each time it goes round ends one round later instead of never.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
