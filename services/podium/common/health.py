"""Liveness and readiness: checks are registered by name, and readiness names what is missing."""

from collections.abc import Callable

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

Check = Callable[[], bool]


class Health:
    """The named checks of one process. Checks are cheap and do no I/O: they read what background work last saw."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._live: dict[str, Check] = {}
        self._away: dict[str, Check] = {}
        self.draining = False

    def require(self, name: str, check: Check) -> None:
        """Readiness needs ``check()`` to be true."""
        self._checks[name] = check

    def require_alive(self, name: str, check: Check) -> None:
        """Liveness needs ``check()`` to be true; only for what a restart mends (a dead loop), never for a store."""
        self._live[name] = check

    def admit(self, name: str, is_away: Check) -> None:
        """Readiness names ``name`` as degraded while ``is_away()`` is true, and is not lost by it.

        For a store without which the process still serves what it has, where every other pod is in the same state.
        """
        self._away[name] = is_away

    def degraded(self) -> list[str]:
        """Names of what is away and can be done without."""
        return [name for name, is_away in self._away.items() if is_away()]

    def missing(self) -> list[str]:
        """Names of the checks that fail now; ``draining`` while the process goes away."""
        failed = [name for name, check in self._checks.items() if not check()]
        return ["draining", *failed] if self.draining else failed

    def dead(self) -> list[str]:
        """Names of the failed liveness checks."""
        return [name for name, check in self._live.items() if not check()]

    def install(self, app: FastAPI) -> None:
        """Serve ``/healthz/live`` and ``/healthz/ready``."""

        @app.get("/healthz/live", include_in_schema=False)
        async def live() -> Response:
            return _answer(self.dead())

        @app.get("/healthz/ready", include_in_schema=False)
        async def ready() -> Response:
            return _answer(self.missing(), degraded=self.degraded())


def _answer(missing: list[str], **more: list[str]) -> Response:
    status = "ok" if not missing else "unavailable"
    return JSONResponse({"status": status, "missing": missing, **more}, status_code=200 if not missing else 503)
