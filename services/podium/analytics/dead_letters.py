"""The dead-letter stream: list, replay, discard."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from nats.js.api import RawStreamMsg
from nats.js.errors import APIError, NotFoundError

from podium.analytics.metrics import DEAD_LETTER_ACTS
from podium.common.bus import CONSUMER_HEADER, DLQ_PREFIX, DLQ_STREAM, OUTAGE, REPLAYS_HEADER, Bus, is_order
from podium.common.problems import StoreUnavailable

REPLAYABLE: Final = "podium.events."
"""Only subjects of the event stream are published to."""

_OWN_HEADERS: Final = frozenset(
    {"podium-reason", "podium-subject", "podium-stream-seq"} | {CONSUMER_HEADER.lower(), REPLAYS_HEADER.lower()}
)
"""Ours that are made anew for each publication, in lower case."""


class NotReplayable(ValueError):
    """A dead letter that names no subject of the event stream."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that a consumer could not handle. ``id`` is its sequence in the dead-letter stream.

    ``replays`` is how often it was replayed, to fail again; ``headers`` are all that it carries.
    """

    id: int
    consumer: str
    subject: str
    reason: str
    stream_sequence: int | None
    time: datetime | None
    data: bytes
    headers: Mapping[str, str]
    replays: int

    @property
    def trace_id(self) -> str | None:
        """The trace of the publication, 32 hex digits, where it was sampled or not."""
        parts = self.headers.get("traceparent", "").split("-")
        return parts[1] if len(parts) == 4 else None

    def payload(self) -> Any:
        """The message as JSON where it is, else as base64 text."""
        try:
            return msgspec.json.decode(self.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return base64.b64encode(self.data).decode()


class DeadLetters:
    """Raises StoreUnavailable from every method while NATS is away."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def page(self, after: int, limit: int) -> Sequence[DeadLetter]:
        """Dead letters with ids above ``after``, oldest first."""
        letters: list[DeadLetter] = []
        while len(letters) < limit:
            letter = await self._get(after + 1, following=True)
            if letter is None:
                break
            letters.append(letter)
            after = letter.id
        return letters

    async def get(self, letter_id: int) -> DeadLetter | None:
        """One dead letter."""
        return await self._get(letter_id, following=False)

    async def count(self) -> int:
        """How many there are."""
        return sum((await self.counts()).values())

    async def counts(self) -> dict[str, int]:
        """How many there are, by consumer."""
        try:
            info = await self._bus.jetstream.stream_info(DLQ_STREAM, subjects_filter=f"{DLQ_PREFIX}>")
        except NotFoundError:
            return {}
        except OUTAGE as error:
            raise StoreUnavailable("nats") from error
        return {subject.removeprefix(DLQ_PREFIX): number for subject, number in (info.state.subjects or {}).items()}

    async def replay(self, letter: DeadLetter) -> str:
        """Publish it to its subject again under a new message id, and remove it once that is acknowledged.

        Only the consumer that failed takes it. The id is made of the letter's own, so two replays at once publish one
        message. Raises NotReplayable.
        """
        if not letter.subject.startswith(REPLAYABLE):
            raise NotReplayable(letter.subject)
        message_id = f"replay-{letter.id}-{letter.stream_sequence or 0}"
        kept = {name: value for name, value in letter.headers.items() if not _made_anew(name)}
        kept |= {CONSUMER_HEADER: letter.consumer, REPLAYS_HEADER: str(letter.replays + 1)}
        try:
            await self._bus.jetstream.publish(letter.subject, letter.data, headers={**kept, "Nats-Msg-Id": message_id})
        except OUTAGE as error:
            raise StoreUnavailable("nats") from error
        await self._delete(letter.id)
        DEAD_LETTER_ACTS.labels("replay").inc()
        return message_id

    async def discard(self, letter_id: int) -> bool:
        """Remove one; false where it is not there."""
        if await self.get(letter_id) is None:
            return False
        await self._delete(letter_id)
        DEAD_LETTER_ACTS.labels("discard").inc()
        return True

    async def _delete(self, letter_id: int) -> None:
        try:
            await self._bus.jetstream.delete_msg(DLQ_STREAM, letter_id)
        except OUTAGE as error:
            # The server has no error of its own for a message that somebody else deleted first.
            if isinstance(error, APIError) and await self._get(letter_id, following=False) is None:
                return
            raise StoreUnavailable("nats") from error

    async def _get(self, sequence: int, *, following: bool) -> DeadLetter | None:
        try:
            subject = f"{DLQ_PREFIX}>" if following else None
            message = await self._bus.jetstream.get_msg(DLQ_STREAM, seq=sequence, subject=subject, next=following)
        except NotFoundError:
            return None
        except OUTAGE as error:
            raise StoreUnavailable("nats") from error
        return _letter(message)


def _letter(message: RawStreamMsg) -> DeadLetter:
    headers = dict(message.headers or {})
    sequence, replays = headers.get("Podium-Stream-Seq", ""), headers.get(REPLAYS_HEADER, "")
    return DeadLetter(
        id=int(message.seq or 0),
        consumer=(message.subject or "").removeprefix(DLQ_PREFIX),
        subject=headers.get("Podium-Subject", ""),
        reason=headers.get("Podium-Reason", ""),
        stream_sequence=int(sequence) if sequence.isdigit() else None,
        time=message.time,
        data=message.data or b"",
        headers=headers,
        replays=int(replays) if replays.isdecimal() and len(replays) < 10 else 0,
    )


def _made_anew(header: str) -> bool:
    return is_order(header) or header.lower() in _OWN_HEADERS
