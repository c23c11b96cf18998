"""The decision: what each update of a batch does to the scores, or why it does nothing. Pure, no clock, no I/O.

The caller holds the locks on all players and scores of the batch and gives the state it read under them. Updates are
decided one after the other, each seeing what those before it did, as if each had its own transaction.
Times are Unix microseconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from podium.common.rules import MAX_SCORE, Board
from podium.scores.domain_limits import SECOND, Limit, Standing, standing, within
from podium.scores.domain_rules import DATA_POINTER, Award, Refusal, Rules

MAX_TIMESTAMP_SKEW = 300 * SECOND
"""How far the client's timestamp may be from the server's clock, either way, in microseconds."""

ANSWER_LIMIT_SLUG = "rate-limited"

_encode = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The body of a 200, in the order of its fields; kept with the action for replays."""

    action_id: str
    user_id: str
    username: str
    score: int
    score_increase: int
    total_actions: int
    tier: str | None
    last_updated: str


class Update(msgspec.Struct, frozen=True, gc=False):
    """A well-formed, authenticated update that waits for its decision."""

    user_id: str
    username: str
    action_id: str
    action_type: str
    timestamp: int
    metadata: str
    """The client's actionMetadata as JSON text."""
    body_sha256: bytes
    verdict: Award | Refusal
    """What the rules say of the action and its data."""
    ip_address: str | None = None
    device_info: str | None = None
    request_signature: str | None = None
    traceparent: str | None = None
    """Context of this update, where its trace is sampled."""
    trace_id: str | None = None
    nonce: bytes | None = None
    """The nonce to spend before the decision, as its key in the nonce store; None where it is spent already."""


class PlayerState(msgspec.Struct):
    """The row of a user that an update locks."""

    user_id: str
    username: str = ""
    total_actions: int = 0
    recent: list[int] = []
    """Acceptance times that may still count for the user's limit, ascending."""
    accepted: int = 0
    """How many of them, the last ones, were accepted by this decision."""
    action_times: dict[str, list[int]] = {}
    """Acceptance times by action type, for the limits of the types."""
    restriction: str | None = None
    restricted_until: int | None = None


class ScoreState(msgspec.Struct, gc=False):
    """A user's score on a board. Without an action (``total_actions`` 0) there is none yet in this season."""

    board: str
    user_id: str
    username: str = ""
    score: int = 0
    version: int = 0
    reached_at: int = 0
    last_updated: int = 0
    total_actions: int = 0
    hidden: bool = False


class Logged(msgspec.Struct, frozen=True):
    """An action that was accepted before."""

    body_sha256: bytes
    answer: Answer


@dataclass(slots=True)
class State:
    """What was read under the locks. ``scores`` by (board, user), ``log`` by (user, actionId)."""

    players: dict[str, PlayerState]
    scores: dict[tuple[str, str], ScoreState]
    log: dict[tuple[str, str], Logged]


class Accepted(msgspec.Struct, frozen=True):
    """Counted now. ``standing`` is the user's, after it; ``body`` is the answer as JSON."""

    answer: Answer
    standing: Standing
    body: bytes


class Replayed(msgspec.Struct, frozen=True):
    """Counted before; the first answer again."""

    answer: Answer

    @property
    def body(self) -> bytes:
        """The answer as JSON, byte for byte as it was sent first."""
        return _encode(self.answer)


Outcome = Accepted | Replayed | Refusal


class Change(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """One entry of the event ``score.updated``: the absolute state of one score after one update."""

    board: str
    user_id: str
    username: str
    score: int
    version: int
    reached_at: str
    hidden: bool
    total_actions: int
    action_id: str
    action_type: str
    score_increase: int
    accepted_at: str
    ip_address: str | None
    traceparent: str | None


@dataclass(slots=True)
class Decision:
    """The outcome of each update, and everything that has to be written."""

    outcomes: list[Outcome] = field(default_factory=list)
    logged: list[tuple[Update, Accepted, int]] = field(default_factory=list)
    """Accepted updates with their outcomes and acceptance times."""
    players: dict[str, PlayerState] = field(default_factory=dict)
    scores: dict[tuple[str, str], ScoreState] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)


def decide(state: State, updates: Sequence[Update], rules: Rules, now: int) -> Decision:
    """Decide ``updates`` in order; ``state`` is changed along the way and belongs to this call.

    Each accepted update gets a time of its own, so that who came first in a batch also reached a score first.
    """
    decision = Decision()
    for index, update in enumerate(updates):
        decision.outcomes.append(_decide_one(decision, state, update, rules, now + index))
    return decision


def _decide_one(decision: Decision, state: State, update: Update, rules: Rules, now: int) -> Outcome:
    player = state.players[update.user_id]
    if player.restriction is not None:
        refusal = _restricted(player, now)
        if refusal:
            return refusal
    logged = state.log.get((update.user_id, update.action_id))
    if logged:
        if logged.body_sha256 == update.body_sha256:
            return Replayed(logged.answer)
        return Refusal(
            "action-id-reused",
            "this actionId was used with another body; a new action needs a new actionId",
            (("/actionId", "was used with another body"),),
        )
    if abs(now - update.timestamp) > MAX_TIMESTAMP_SKEW:
        return Refusal(
            "stale-timestamp",
            f"timestamp is more than {MAX_TIMESTAMP_SKEW // SECOND} s off the server's clock",
            (("/actionMetadata/timestamp", "is too far from now"),),
        )
    award = update.verdict
    if isinstance(award, Refusal):
        return award
    # The primary's clock may step back at a failover; a user's own acceptance times never do.
    at = max(now, player.recent[-1] + 1) if player.recent else now
    hidden = player.restriction is not None and _hidden(player, at)
    moves = [_move(state, board, update, hidden, award, at) for board in award.boards]
    for move in moves:
        if not -MAX_SCORE <= move.score <= MAX_SCORE:
            return Refusal(
                "invalid-action-data",
                "the score would leave the range of scores",
                ((DATA_POINTER, "would move the score out of range"),),
            )
    recent = within(player.recent, rules.user_limit.window, at)
    if award.limits or len(recent) >= rules.user_limit.count:
        refusal = _limited(player, award, rules, at)
        if refusal:
            return refusal
    recent.append(at)
    player.recent = recent
    return _accept(decision, state, player, update, award, rules, moves, at)


def _accept(
    decision: Decision,
    state: State,
    player: PlayerState,
    update: Update,
    award: Award,
    rules: Rules,
    moves: list[ScoreState],
    at: int,
) -> Accepted:
    player.username = update.username
    player.total_actions += 1
    player.accepted += 1
    if award.limits or player.action_times:
        _note_action_time(player, award, at)
    accepted_at = rfc3339(at)
    first_increase = 0
    for move in moves:
        key = (move.board, move.user_id)
        previous = state.scores.get(key)
        increase = move.score - previous.score if previous else move.score
        if move is moves[0]:
            first_increase = increase
        decision.changes.append(_change(update, move, increase, at, accepted_at))
        state.scores[key] = decision.scores[key] = move
    first = moves[0]
    answer = Answer(
        update.action_id,
        update.user_id,
        update.username,
        first.score,
        first_increase,
        player.total_actions,
        rules.tier(first.score),
        accepted_at,
    )
    accepted = Accepted(answer, standing(rules.user_limit, player.recent, at), _encode(answer))
    state.log[update.user_id, update.action_id] = Logged(update.body_sha256, answer)
    decision.players[player.user_id] = player
    decision.logged.append((update, accepted, at))
    return accepted


def _restricted(player: PlayerState, now: int) -> Refusal | None:
    if player.restriction not in {"ban", "block"}:
        return None
    if player.restricted_until is not None and player.restricted_until <= now:
        return None
    return restriction_refusal(player.restriction, player.restricted_until)


def restriction_refusal(kind: str, until: int | None) -> Refusal:
    """The refusal of a user under a ``ban`` or ``block``; ``until`` None means for ever."""
    end = f" until {rfc3339(until)}" if until is not None else ""
    if kind == "ban":
        return Refusal("user-banned", f"this user is banned{end}")
    return Refusal("blocked-by-anomaly", f"this user is blocked for unusual activity{end}")


def _limited(player: PlayerState, award: Award, rules: Rules, at: int) -> Refusal | None:
    """The refusal by the limit with the longest wait, if any is exhausted."""
    standings = [standing(rules.user_limit, player.recent, at)]
    if award.limits:
        times = player.action_times.get(award.action_type, [])
        standings += [standing(limit, times, at) for limit in award.limits]
    exhausted = [one for one in standings if one.remaining == 0]
    if not exhausted:
        return None
    worst = max(exhausted, key=lambda one: one.reset)
    return Refusal(ANSWER_LIMIT_SLUG, _limit_text(worst.limit), limit=worst.limit, retry_after=worst.reset)


def _limit_text(limit: Limit) -> str:
    return f"at most {limit.count} accepted in any {limit.window / SECOND:g} s ({limit.policy})"


def _note_action_time(player: PlayerState, award: Award, at: int) -> None:
    """Keep the times that the limits of this action type still need, and no others."""
    if award.limits:
        longest = max(limit.window for limit in award.limits)
        kept = within(player.action_times.get(award.action_type, []), longest, at)
        player.action_times[award.action_type] = [*kept, at]
    else:
        player.action_times.pop(award.action_type, None)


def _move(state: State, board: Board, update: Update, hidden: bool, award: Award, at: int) -> ScoreState:
    """The user's score on ``board`` after the award; a new object, the state is left as it is."""
    old = state.scores.get((board.name, update.user_id)) or ScoreState(board.name, update.user_id)
    # Without an action there is no score: the board is new to the user, or was reset.
    scored = old.total_actions > 0
    score = award.points
    if board.operator == "Increment":
        score = old.score + award.points
    elif board.operator == "Best" and scored:
        score = max(old.score, award.points)
    return ScoreState(
        old.board,
        old.user_id,
        update.username,
        score,
        old.version + 1,
        # An equal score was reached when it was reached first.
        old.reached_at if scored and score == old.score else at,
        at,
        old.total_actions + 1,
        hidden,
    )


def _hidden(player: PlayerState, now: int) -> bool:
    """Whether the player is kept out of the rankings; not the row's old word, for a reset hides rows until now."""
    lasting = player.restricted_until is None or player.restricted_until > now
    return player.restriction in {"ban", "hide"} and lasting


def _change(update: Update, score: ScoreState, increase: int, at: int, accepted_at: str) -> Change:
    return Change(
        score.board,
        score.user_id,
        score.username,
        score.score,
        score.version,
        accepted_at if score.reached_at == at else rfc3339(score.reached_at),
        score.hidden,
        score.total_actions,
        update.action_id,
        update.action_type,
        increase,
        accepted_at,
        update.ip_address,
        update.traceparent,
    )


def rfc3339(microseconds: int) -> str:
    """A time as RFC 3339 in UTC with six digits of fraction."""
    seconds, fraction = divmod(microseconds, SECOND)
    return f"{_second(seconds)}.{fraction:06d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
