"""A board as the services keep it, driven one step at a time, so that a test decides how the steps interleave."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from redis.asyncio.cluster import RedisCluster
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncEngine

from podium.common.seasons import first_version
from podium.scoreboard.domain import Ranking, Row
from podium.scoreboard.events import ScoreUpdate
from podium.scoreboard.layout import places, shard_of
from podium.scoreboard.projector.source import ScoreSource
from podium.scoreboard.store import NoRanking, RankingStore, Superseded

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = "2026-01-01T00:00:00.000000Z"

_READ = text("SELECT score, version, reached_at FROM user_score WHERE board = :board AND user_id = :user")
_WRITE = text("""
    INSERT INTO user_score (board, user_id, username, score, version, reached_at, last_updated, total_actions, hidden)
    VALUES (:board, :user, :name, :score, :version, :reached, :reached, 1, :hidden)
    ON CONFLICT (board, user_id) DO UPDATE SET username = excluded.username, score = excluded.score,
        version = excluded.version, reached_at = excluded.reached_at, last_updated = excluded.last_updated,
        hidden = excluded.hidden
""")
_RESET = text("""
    INSERT INTO board_state (board, season) VALUES (:board, 2)
    ON CONFLICT (board) DO UPDATE SET season = board_state.season + 1 RETURNING season
""")
_RANKED = text("""
    SELECT user_id, username, score FROM current_score WHERE board = :board AND NOT hidden
    ORDER BY score DESC, reached_at, user_id
""")


@dataclass
class Build:
    """A rebuild under way, step by step: begun, rows read, half written."""

    epoch: int
    shards: int
    season: int
    rows: list[Row] | None = None
    users: list[str] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)
    written: int = 0


@dataclass
class Model:
    """One board. ``operator`` is Increment, Best or Latest; ``events`` are told, but not yet projected for good."""

    board: str
    operator: str
    shards: int
    top: int
    engine: AsyncEngine
    source: ScoreSource
    store: RankingStore
    redis: RedisCluster
    events: list[ScoreUpdate] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    season: int = 1
    build: Build | None = None
    seen: tuple[int, int] = (0, 0)

    async def act(self, user: str, name: str, points: int, step: int) -> None:
        """Commit an action and tell of it; its time is ``step`` µs after the start."""
        await self._commit(user, name, points, START + timedelta(microseconds=step))

    async def restrict(self, user: str, hidden: bool) -> None:
        """Hide a user or show them again; score and time stay."""
        (self.hidden.add if hidden else self.hidden.discard)(user)
        row = await self._row(user)
        if row is not None and row["version"] >= first_version(self.season):
            await self._put(user, f"Name of {user}", row["score"], row["version"] + 1, row["reached_at"])

    async def reset(self) -> None:
        """Begin a season: one number grows."""
        async with self.engine.begin() as connection:
            self.season = int((await connection.execute(_RESET, {"board": self.board})).scalar_one())

    async def _commit(self, user: str, name: str, points: int, at: datetime) -> None:
        row = await self._row(user)
        base = first_version(self.season)
        if row is None or row["version"] < base:
            await self._put(user, name, points, base + 1, at)
            return
        score, reached = row["score"], row["reached_at"]
        match self.operator:
            case "Increment":
                score, reached = score + points, at
            case "Best" if points > score:
                score, reached = points, at
            case "Latest":
                score, reached = points, at
        await self._put(user, name, score, row["version"] + 1, reached)

    async def _row(self, user: str) -> RowMapping | None:
        async with self.engine.connect() as connection:
            return (await connection.execute(_READ, {"board": self.board, "user": user})).mappings().one_or_none()

    async def _put(self, user: str, name: str, score: int, version: int, reached: datetime) -> None:
        hidden = user in self.hidden
        values = {"board": self.board, "user": user, "name": name, "score": score, "version": version}
        async with self.engine.begin() as connection:
            await connection.execute(_WRITE, {**values, "reached": reached, "hidden": hidden})
        self.events.append(ScoreUpdate(self.board, user, name, score, version, reached, hidden))

    async def deliver(self, projector: int, events: Sequence[ScoreUpdate], *, acknowledge: bool) -> None:
        """Give events to a projector; without a ranking, or unacknowledged, they come again."""
        try:
            await self.store.apply(self.board, self.top, f"projector-{projector}", events)
        except NoRanking:
            return
        if acknowledge:
            for one in events:
                self.events.remove(one)

    async def step(self, shards: int) -> None:
        """The next step of a rebuild, which is begun with ``shards`` where none is under way."""
        try:
            await self._step(shards)
        except Superseded:
            self.build = None

    async def _step(self, shards: int) -> None:
        build = self.build
        if build is None:
            epoch, _, season = await self.source.next_epoch(self.board)
            if await self.store.begin(self.board, epoch, shards=shards, top=self.top, season=season):
                self.build = Build(epoch, shards, season, writes=[0] * shards)
        elif build.rows is None:
            build.rows = []
            async with aclosing((await self.source.scan(self.board, build.season)).chunks()) as chunks:
                async for chunk in chunks:
                    build.rows += chunk.rows
                    build.users += chunk.users
        elif build.written < len(build.rows):
            upto = build.written + (len(build.rows) - build.written + 1) // 2
            await self._load(build, build.written, upto)
        else:
            await self.store.swap(self.board, self.top, build.epoch, "builder", build.writes, NOW)
            self.build = None

    async def _load(self, build: Build, start: int, stop: int) -> None:
        assert build.rows is not None
        for place in places(self.board, build.shards):
            part = [
                row
                for user, row in zip(build.users[start:stop], build.rows[start:stop], strict=True)
                if shard_of(user, build.shards) == place.shard
            ]
            if part:
                build.writes[place.shard] = await self.store.load(place, "builder", build.epoch, part, NOW)
        build.written = stop

    async def look(self) -> None:
        """What every projector does each second: finish what another left undone."""
        state = await self.store.state(self.board)
        await self.store.settle(self.board, self.top, state)
        snapshot = await self.store.top(self.board)
        if snapshot is not None:
            assert snapshot.age >= self.seen, "what watchers see never goes back"
            self.seen = snapshot.age

    async def wipe(self) -> None:
        """Redis loses everything of the board."""
        for shards in (1, 2, 3, 4):
            for place in places(self.board, shards):
                keys = [key async for key in self.redis.scan_iter(match=f"{place.prefix}*")]
                for key in keys:
                    await self.redis.delete(key)
        self.seen = (0, 0)

    async def finish(self) -> None:
        """No more changes: what is under way comes to its end."""
        while self.build is not None:
            await self.step(self.shards)
        state = await self.store.state(self.board)
        _, whole = await self.store.settle(self.board, self.top, state)
        if state.epoch is None or state.season != self.season or not whole:
            await self.step(self.shards)
            while self.build is not None:
                await self.step(self.shards)
        await self.look()
        while self.events:
            await self.store.apply(self.board, self.top, "projector-0", self.events[:5])
            del self.events[:5]
        await self.look()

    async def truth(self) -> tuple[Ranking, ...]:
        """The ranking by SQL."""
        async with self.engine.connect() as connection:
            rows = (await connection.execute(_RANKED, {"board": self.board})).all()
        return tuple(Ranking(row.user_id, row.username, row.score, rank) for rank, row in enumerate(rows, 1))
