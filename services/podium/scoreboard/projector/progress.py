"""What one process knows it did and saw on a board, so that it notices when Redis goes back to an older copy. Pure."""


class Progress:
    """The furthest state of a board's ranking that this process has seen.

    A Redis replica that takes over may lack the last writes. The epoch and version then go backwards, or fewer of this
    process's own writes are counted than it has made: either means the ranking must be built anew.
    """

    def __init__(self) -> None:
        self._age = (0, 0)
        self._writes: dict[tuple[int, int], int] = {}

    def saw(self, epoch: int, version: int) -> bool:
        """Note a state; false where a newer one had been seen before."""
        if (epoch, version) < self._age:
            return False
        if epoch > self._age[0]:
            self._writes = {known: count for known, count in self._writes.items() if known[0] >= epoch}
        self._age = (epoch, version)
        return True

    @property
    def epoch(self) -> int:
        """The latest epoch seen, 0 before the first."""
        return self._age[0]

    def lost(self, writes: dict[tuple[int, int], int]) -> int:
        """Note how many writes of this process each (epoch, shard) counts, after one more.

        Answers the latest epoch that has lost some, 0 where none has. More than expected is harmless: the client
        repeats a write whose answer was lost.
        """
        lost = max((at[0] for at, count in writes.items() if count <= self._writes.get(at, 0)), default=0)
        self._writes.update(writes)
        return lost
