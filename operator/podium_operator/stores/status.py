"""The answer that every store gives about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StoreStatus:
    """How a store is. `message` is one sentence for people, without secrets."""

    ok: bool
    """It serves with everything the spec asks for."""
    message: str
    serving: bool = False
    """It serves, though perhaps with less redundancy than the spec asks for."""
