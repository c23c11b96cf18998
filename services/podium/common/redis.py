"""Redis Cluster client with the time-outs and retries that suit a request path."""

from typing import Any

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError

from podium.common.settings import RedisSettings

SOCKET_TIMEOUT_SECONDS = 1.0

OUTAGE = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What the client raises when the cluster, or the node of a slot, is away."""


class _Cluster(RedisCluster):
    """A client that calls an outage an outage.

    When a node says that the cluster is down the library closes all connections, also those that other commands are
    just opening. What they then meet is not for the library's users: an AttributeError, or uvloop's RuntimeError.
    """

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """As the library's. Raises what OUTAGE names, or ResponseError, and nothing else."""
        try:
            return await super().execute_command(*args, **kwargs)
        except (AttributeError, RuntimeError) as error:
            raise RedisConnectionError(f"a connection was closed while it was in use: {error}") from error


def make_redis(settings: RedisSettings, *, retries: int = 2, max_connections: int = 32) -> RedisCluster:
    """A client of the cluster; it connects with the first command, and again after all nodes were replaced.

    The nodes of the settings are host names that outlive pods, so start-up nodes stay as given and are resolved anew.
    """
    password = settings.password.get_secret_value() or None
    return _Cluster(
        startup_nodes=[ClusterNode(host, port) for host, port in settings.addresses()],
        password=password,
        decode_responses=False,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_keepalive=True,
        max_connections=max_connections,
        # Without this the client looks for a primary among none while a cluster is formed anew, and raises IndexError.
        require_full_coverage=True,
        dynamic_startup_nodes=False,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), retries),
    )
