"""Redis Cluster client with the time-outs and retries that suit a request path."""

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisClusterException, RedisError

from podium.common.settings import RedisSettings

SOCKET_TIMEOUT_SECONDS = 1.0

OUTAGE = (RedisError, RedisClusterException, OSError, TimeoutError)
"""What the client raises when the cluster, or the node of a slot, is away."""


def make_redis(settings: RedisSettings, *, retries: int = 2, max_connections: int = 32) -> RedisCluster:
    """A client of the cluster; it connects with the first command, and again after all nodes were replaced.

    The nodes of the settings are host names that outlive pods, so start-up nodes stay as given and are resolved anew.
    """
    password = settings.password.get_secret_value() or None
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in settings.addresses()],
        password=password,
        decode_responses=False,
        socket_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
        socket_keepalive=True,
        max_connections=max_connections,
        require_full_coverage=False,
        dynamic_startup_nodes=False,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.2), retries),
    )
