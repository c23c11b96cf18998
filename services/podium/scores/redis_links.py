"""One connection to each primary of a Redis Cluster, found by a key's slot."""

import asyncio
import binascii
from typing import Final

from redis.asyncio.cluster import RedisCluster

from podium.scores.redis_link import RedisLink, ReplyError, command

SLOTS: Final = 16_384
"""Hash slots of a Redis Cluster (Redis Cluster specification)."""


class RedisLinks:
    """The connections. The client library finds out which nodes the primaries are."""

    def __init__(self, redis: RedisCluster, password: str | None) -> None:
        self._redis = redis
        self._password = password
        self._links: dict[tuple[str, int], RedisLink] = {}
        self._by_slot: list[RedisLink | None] = [None] * SLOTS

    def of(self, key: bytes) -> RedisLink | None:
        """The connection to the primary of ``key``, which has no hash tag; None while there is none."""
        link = self._by_slot[binascii.crc_hqx(key, 0) % SLOTS]
        return link if link is not None and link.usable else None

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

    def close(self) -> None:
        """Close all."""
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
