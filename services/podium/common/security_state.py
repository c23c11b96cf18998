"""Revoked sessions and restricted users, in the memory of every pod, fed by the watch of a key-value bucket."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from podium.common.bus import OUTAGE, Bus, user_token
from podium.common.loops import heed_cancellation
from podium.common.problems import StoreUnavailable, unavailable

REVOKED_PREFIX = "revoked."
RESTRICTED_PREFIX = "restricted."
RETRY_SECONDS = 0.5

_log = structlog.get_logger("podium.security")


@dataclass(frozen=True, slots=True)
class Restriction:
    """What a user may not do: ``ban`` and ``block`` refuse updates, ``hide`` only leaves the ranking.

    ``until`` is a Unix time in seconds, None for ever.
    """

    kind: str
    until: float | None = None


class SecurityState:
    """The newest known revocations and restrictions. ``run`` keeps it so; look-ups never wait.

    ``on_revoked`` is called with each session that is revoked, ``on_restricted`` after each change of a restriction.
    """

    def __init__(
        self, on_revoked: Callable[[str], None] | None = None, on_restricted: Callable[[], None] | None = None
    ) -> None:
        self._revoked: dict[str, float] = {}
        self._restricted: dict[str, Restriction] = {}
        self._on_revoked = on_revoked
        self._on_restricted = on_restricted
        self.restrictions = 0
        """How often restrictions changed: what was made of them before another number is out of date."""
        self.loaded = asyncio.Event()

    def is_revoked(self, sid: str) -> bool:
        """Whether the session was revoked. Raises Problem 503 before the first load: nobody can tell then."""
        if not self.loaded.is_set():
            raise unavailable("nats")
        return sid in self._revoked

    def restriction(self, user_id: str, *, now: float | None = None) -> Restriction | None:
        """The restriction of a user that holds now, if any."""
        found = self._restricted.get(user_token(user_id))
        if found and found.until is not None and found.until <= (time.time() if now is None else now):
            return None
        return found

    def is_restricted(self, user_id: str) -> bool:
        """Whether there is any restriction of the user, also one that has run out; cheap where nobody has one."""
        return bool(self._restricted) and user_token(user_id) in self._restricted

    def apply(self, key: str, value: bytes | None) -> None:
        """Take one entry of the bucket; ``value`` None means it was deleted."""
        if key.startswith(REVOKED_PREFIX):
            sid = key.removeprefix(REVOKED_PREFIX)
            if value is None:
                self._revoked.pop(sid, None)
                return
            self._revoked[sid] = float(msgspec.json.decode(value).get("exp", 0))
            self._forget_expired()
            if self._on_revoked:
                self._on_revoked(sid)
        elif key.startswith(RESTRICTED_PREFIX):
            user = key.removeprefix(RESTRICTED_PREFIX)
            self.restrictions += 1
            if value is None:
                self._restricted.pop(user, None)
            else:
                entry = msgspec.json.decode(value)
                self._restricted[user] = Restriction(entry["kind"], entry.get("until"))
            if self._on_restricted:
                self._on_restricted()

    def _forget_expired(self) -> None:
        """Drop revocations whose last token has expired, once there are enough to be worth the walk."""
        if len(self._revoked) % 1024 == 0:
            now = time.time()
            self._revoked = {sid: exp for sid, exp in self._revoked.items() if exp == 0 or exp > now}

    async def run(self, bus: Bus) -> None:
        """Watch the bucket for ever: first all entries, then each change; begins anew when the watch is lost."""
        while True:
            heed_cancellation()
            try:
                bucket = await bus.security_bucket()
                watcher: Any = await bucket.watchall()
                try:
                    while True:
                        heed_cancellation()
                        entry = await watcher.updates(timeout=30)
                        if entry is None:
                            self.loaded.set()
                            continue
                        deleted = entry.operation in {"DEL", "PURGE"}
                        self.apply(entry.key, None if deleted else entry.value)
                finally:
                    await watcher.stop()
            except TimeoutError:
                continue  # nothing changed for a while: a new watch also notices a bucket that was replaced
            except (*OUTAGE, StoreUnavailable) as error:
                if bus.closed:
                    raise
                _log.warning("security state cannot be watched, trying again", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
