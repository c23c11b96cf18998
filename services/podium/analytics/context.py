"""What one process of the analytics service holds, made once by the app's composition."""

from collections.abc import Callable
from dataclasses import dataclass

from podium.analytics.boards import BoardStore
from podium.analytics.dead_letters import DeadLetters
from podium.analytics.reports import ReportStore
from podium.analytics.store import BoardSpec
from podium.common.bus import Bus
from podium.common.problems import Problem, StoreUnavailable


@dataclass(frozen=True, slots=True)
class AnalyticsContext:
    """The parts that routes use."""

    boards: tuple[BoardSpec, ...]
    board_store: BoardStore
    reports: ReportStore
    bus: Callable[[], Bus | None]

    def dead_letters(self) -> DeadLetters:
        """The dead-letter stream. Raises StoreUnavailable while NATS is away."""
        return DeadLetters(self.connected())

    def connected(self) -> Bus:
        """The connection to NATS. Raises StoreUnavailable while it is away."""
        bus = self.bus()
        if bus is None or not bus.connected:
            raise StoreUnavailable("nats")
        return bus

    async def known_board(self, board: str) -> str:
        """The board, if there is or was one of that name. Raises Problem(board-unknown)."""
        if any(one.name == board for one in self.boards) or ("\0" not in board and await self.reports.knows(board)):
            return board
        raise Problem("board-unknown", 404, "the board is not known")
