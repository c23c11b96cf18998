"""One connection to each primary of a Redis Cluster, found by a key's slot."""

import asyncio
import binascii
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from redis.asyncio.cluster import RedisCluster

from podium.common.loops import heed_cancellation
from podium.common.redis_link import RedisLink, ReplyError, command

SLOTS: Final = 16_384
"""Hash slots of a Redis Cluster (Redis Cluster specification)."""

PAUSE_SECONDS: Final = 1.0
"""Pause between one look for the primaries and the next."""

LOOK_SECONDS: Final = 5.0
"""How long such a look may take."""


class RedisLinks:
    """The connections. The client library finds out which nodes the primaries are.

    ``failed`` is told of each look for them that was in vain, ``found`` of the one that was not.
    """

    def __init__(
        self,
        redis: RedisCluster,
        password: str | None,
        *,
        failed: Callable[[Exception], None],
        found: Callable[[], None] = lambda: None,
    ) -> None:
        self._redis = redis
        self._password = password
        self._failed = failed
        self._found = found
        self._looking: asyncio.Task[None] | None = None
        self._look_not_before = 0.0
        self._links: dict[tuple[str, int], RedisLink] = {}
        self._by_slot: list[RedisLink | None] = [None] * SLOTS

    def of(self, key: bytes) -> RedisLink | None:
        """The connection to the primary of ``key``; None while there is none, or where the key has a hash tag."""
        if b"{" in key:
            return None
        link = self._by_slot[binascii.crc_hqx(key, 0) % SLOTS]
        return link if link is not None and link.usable else None

    def look(self) -> "asyncio.Task[None]":
        """Connect to what are the primaries now, in the background and until it is done; the running look, if any."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_until_found(), name="redis-links")
        return self._looking

    async def _look_until_found(self) -> None:
        while True:
            heed_cancellation()
            await asyncio.sleep(self._look_not_before - time.monotonic())
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self.connect()
            except Exception as error:  # whatever it is: nobody else would find out that Redis is back
                self._failed(error)
            else:
                self._found()
                return
            finally:
                self._look_not_before = time.monotonic() + PAUSE_SECONDS

    async def connect(self) -> None:
        """Connect to what are the primaries now, keeping what there is.

        Raises OSError, ReplyError or what the client library raises if the cluster is not whole; what there was stays.
        """
        await self._redis.initialize()
        await self._redis.nodes_manager.initialize()
        primaries = {slot: nodes[0] for slot, nodes in self._redis.nodes_manager.slots_cache.items()}
        links: dict[tuple[str, int], RedisLink] = {}
        try:
            for node in set(primaries.values()):
                address = (node.host, int(node.port))
                link = self._links.get(address)
                links[address] = link if link and link.usable else await RedisLink.open(*address, self._password)
            await asyncio.gather(*map(_whole, links.values()))
        except BaseException:
            _close(links, keep=self._links)
            raise
        _close(self._links, keep=links)
        self._links = links
        by_slot: list[RedisLink | None] = [None] * SLOTS
        for slot, node in primaries.items():
            by_slot[slot] = links[node.host, int(node.port)]
        self._by_slot = by_slot

    async def close(self) -> None:
        """Close all, and look for none any more."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        _close(self._links, keep={})


def _close(links: dict[tuple[str, int], RedisLink], *, keep: dict[tuple[str, int], RedisLink]) -> None:
    for address, link in links.items():
        if keep.get(address) is not link:
            link.close()


async def _whole(link: RedisLink) -> None:
    """Raise ReplyError if this node would refuse commands, as while another shard has no primary."""
    (reply,) = await link.send(command(b"CLUSTER", b"INFO"), 1)
    if not isinstance(reply, bytes) or b"cluster_state:ok" not in reply:
        raise ReplyError("the cluster is down")
