"""NATS: the event stream, the dead-letter stream, the security key-value bucket and plain messages."""

import asyncio
import base64
import re
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import BadRequestError, NotFoundError
from nats.js.kv import KeyValue

from podium.common.loops import heed_cancellation
from podium.common.metrics import STORE_FAILURES
from podium.common.problems import StoreUnavailable
from podium.common.settings import NatsSettings

EVENTS_STREAM = "PODIUM_EVENTS"
EVENTS_SUBJECTS = "podium.events.>"
SCORE_UPDATED = "podium.events.score.updated"
SECURITY_PREFIX = "podium.events.security."
DLQ_STREAM = "PODIUM_DLQ"
DLQ_PREFIX = "podium.dlq."
SECURITY_BUCKET = "PODIUM_SECURITY"
TOP_PREFIX = "podium.top."

CONSUMER_HEADER = "Podium-Consumer"
"""Header of a replayed message: the only consumer that it is for."""

REPLAYS_HEADER = "Podium-Replays"
"""Header of a replayed message: how often it was replayed."""

EVENTS_MAX_AGE_SECONDS = 7 * 24 * 3600
DLQ_MAX_AGE_SECONDS = 30 * 24 * 3600
DUPLICATE_WINDOW_SECONDS = 120
"""Within it JetStream drops a message whose Nats-Msg-Id it has seen; consumers are idempotent beyond it."""
EVENT_MAX_BYTES = 768 * 1024
"""Largest event with its headers. As a dead letter it carries some more, and a server closes the connection of whoever
sends more than its ``max_payload`` of 1 MB."""
ACK_WAIT_SECONDS = 30
MAX_ACK_PENDING = 4096
PUBLISH_TIMEOUT_SECONDS = 2.0

OUTAGE = (nats.errors.Error, OSError, TimeoutError)

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""A token of RFC 9110, section 5.6.2."""

_log = structlog.get_logger("podium.bus")


def is_for(message: Msg, consumer: str) -> bool:
    """Whether ``consumer`` has to handle a message; a replay is for the one that failed, all others acknowledge it."""
    return (message.headers or {}).get(CONSUMER_HEADER, consumer) == consumer


def is_order(header: str) -> bool:
    """Whether a header is one of NATS itself: an order to the server for one publication, not to be given again."""
    return header.lower().startswith("nats-")


def user_token(user_id: str) -> str:
    """A user id as one NATS token: base64url without padding, for it may hold any character."""
    return base64.urlsafe_b64encode(user_id.encode()).decode().rstrip("=")


class Bus:
    """One connection to NATS; it reconnects for ever and says whether it is connected."""

    def __init__(self, client: Client, replicas: int) -> None:
        self.client = client
        self.jetstream: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_SECONDS)
        self._replicas = replicas

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return self.client.is_connected

    @property
    def closed(self) -> bool:
        """Whether the connection has ended for good, as after an error that the client does not survive.

        Only a new process gets another: a loop that finds this ends, and with it the process is no longer alive.
        """
        return bool(self.client.is_closed)

    async def ensure_streams(self) -> None:
        """Create or update the streams and the bucket; idempotent, safe to run from many processes.

        Raises StoreUnavailable where NATS is away.
        """
        events = StreamConfig(
            name=EVENTS_STREAM,
            subjects=[EVENTS_SUBJECTS],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            num_replicas=self._replicas,
            max_age=EVENTS_MAX_AGE_SECONDS,
            max_msg_size=EVENT_MAX_BYTES,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
        )
        dead = StreamConfig(
            name=DLQ_STREAM,
            subjects=[f"{DLQ_PREFIX}>"],
            storage=StorageType.FILE,
            num_replicas=self._replicas,
            max_age=DLQ_MAX_AGE_SECONDS,
            duplicate_window=DUPLICATE_WINDOW_SECONDS,
        )
        try:
            for config in (events, dead):
                await self._ensure_stream(config)
            try:
                await self.jetstream.key_value(SECURITY_BUCKET)
            except NotFoundError:
                await self.jetstream.create_key_value(
                    KeyValueConfig(bucket=SECURITY_BUCKET, history=1, replicas=self._replicas)
                )
        except OUTAGE as error:
            STORE_FAILURES.labels("nats", "ensure_streams").inc()
            raise StoreUnavailable("nats") from error

    async def _ensure_stream(self, config: StreamConfig) -> None:
        assert config.name
        try:
            await self.jetstream.stream_info(config.name)
        except NotFoundError:
            try:
                await self.jetstream.add_stream(config)
            except BadRequestError:  # another process was first
                await self.jetstream.stream_info(config.name)
        else:
            await self.jetstream.update_stream(config)

    async def publish(self, subject: str, payload: bytes, *, message_id: str, traceparent: str | None = None) -> None:
        """Store a message in JetStream and wait for its acknowledgement. Raises StoreUnavailable."""
        headers = {"Nats-Msg-Id": message_id}
        if traceparent:
            headers["traceparent"] = traceparent
        try:
            await self.jetstream.publish(subject, payload, headers=headers)
        except OUTAGE as error:
            STORE_FAILURES.labels("nats", "publish").inc()
            raise StoreUnavailable("nats") from error

    async def pull(self, durable: str, subject: str) -> JetStreamContext.PullSubscription:
        """The durable pull consumer ``durable`` of the event stream, shared by all pods that name it.

        Raises StoreUnavailable.
        """
        config = ConsumerConfig(
            durable_name=durable,
            filter_subject=subject,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_deliver=-1,
            max_ack_pending=MAX_ACK_PENDING,
        )
        try:
            return await self.jetstream.pull_subscribe(subject, durable=durable, stream=EVENTS_STREAM, config=config)
        except OUTAGE as error:
            STORE_FAILURES.labels("nats", "pull").inc()
            raise StoreUnavailable("nats") from error

    async def last_sequence(self, subject: str) -> int:
        """Stream sequence of the last event with this subject, 0 where there is none. Raises what OUTAGE names."""
        try:
            message = await self.jetstream.get_last_msg(EVENTS_STREAM, subject)
        except NotFoundError:
            return 0
        return message.seq or 0

    async def acknowledged(self, durable: str) -> int:
        """Stream sequence up to which this consumer has acknowledged all its events. Raises what OUTAGE names.

        Not the number of pending messages: the server adds to that a moment after it said that it has a message.
        """
        info = await self.jetstream.consumer_info(EVENTS_STREAM, durable)
        return info.ack_floor.stream_seq if info.ack_floor is not None else 0

    async def dead_letter(self, consumer: str, message: Msg, reason: str) -> None:
        """Move a message that fails by itself to the dead-letter stream, then end its delivery.

        The message id is derived from the stream sequence, so a repeat stores it once. Headers whose names cannot be
        sent, which NATS does not check, are left out. Raises StoreUnavailable.
        """
        meta = message.metadata
        headers = {
            f"Podium-Original-{name}" if is_order(name) else name: value
            for name, value in (message.headers or {}).items()
            if _HEADER_NAME.fullmatch(name)
        }
        headers |= {
            "Podium-Reason": reason,
            "Podium-Subject": message.subject,
            "Podium-Stream-Seq": str(meta.sequence.stream),
            "Nats-Msg-Id": f"dlq-{consumer}-{meta.sequence.stream}",
        }
        try:
            await self.jetstream.publish(f"{DLQ_PREFIX}{consumer}", message.data, headers=headers)
            await message.term()
        except OUTAGE as error:
            STORE_FAILURES.labels("nats", "dead_letter").inc()
            raise StoreUnavailable("nats") from error

    async def security_bucket(self) -> KeyValue:
        """The key-value bucket of revocations and restrictions. Raises StoreUnavailable."""
        try:
            return await self.jetstream.key_value(SECURITY_BUCKET)
        except OUTAGE as error:
            raise StoreUnavailable("nats") from error

    async def close(self) -> None:
        """Flush and close; never raises for a server that is away."""
        try:
            await asyncio.wait_for(self.client.drain(), timeout=PUBLISH_TIMEOUT_SECONDS)
        except OUTAGE:
            await self.client.close()


async def connect(
    settings: NatsSettings, name: str, *, on_reconnect: Callable[[], Any] | None = None, wait: bool = True
) -> Bus:
    """Connect to NATS as ``name``.

    The client retries for ever after the first connection; with ``wait`` the first one is retried for ever, too,
    else StoreUnavailable is raised when no server answers.
    """

    async def disconnected() -> None:
        _log.warning("nats connection lost")

    async def reconnected() -> None:
        _log.info("nats connection back")
        if on_reconnect:
            on_reconnect()

    async def failed(error: Exception) -> None:
        _log.warning("nats error", error=str(error) or type(error).__name__)

    options: Mapping[str, Any] = {
        "servers": settings.url.split(","),
        "name": name,
        "user": settings.user,
        "password": settings.password.get_secret_value() or None,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.2,
        "connect_timeout": 2,
        "ping_interval": 5,
        "max_outstanding_pings": 2,
        "disconnected_cb": disconnected,
        "reconnected_cb": reconnected,
        "error_cb": failed,
    }
    while True:
        heed_cancellation()
        try:
            client = await nats.connect(**{**options, "allow_reconnect": True})
        except OUTAGE as error:
            if not wait:
                raise StoreUnavailable("nats") from error
            _log.warning("nats is away, trying again", error=str(error) or type(error).__name__)
            await asyncio.sleep(0.5)
        else:
            return Bus(client, settings.replicas)
