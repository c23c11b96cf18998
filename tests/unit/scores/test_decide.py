"""The decision: idempotent, exact, and the same in one batch as in many."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from podium.common.rules import MAX_SCORE, Action, Board, PointsFrom, Tier
from podium.scores.domain import Accepted, Decision, PlayerState, Replayed, State, Update, decide
from podium.scores.domain_limits import MINUTE, SECOND
from podium.scores.domain_rules import Refusal, Rules

NOW = 1_800_000_000 * SECOND
RULES = Rules(
    [Board(name="default"), Board(name="best", operator="Best"), Board(name="latest", operator="Latest")],
    [
        Action(type="win", points=10, boards=("default",)),
        Action(type="lose", points=-3, boards=("default",)),
        Action(type="combo", points=50, cooldown_seconds=5),
        Action(type="rare", points=1, max_per_minute=2),
        Action(type="lap", points_from=PointsFrom(field="points")),
    ],
    [Tier(name="silver", min_score=100), Tier(name="bronze", min_score=0)],
)


def update(user: str = "u", action_id: str = "a", kind: str = "win", points: int = 0, **changes: Any) -> Update:
    made = Update(
        user_id=user,
        username=user.upper(),
        action_id=action_id,
        action_type=kind,
        timestamp=NOW,
        metadata="{}",
        body_sha256=f"{action_id}{kind}{points}".encode(),
        verdict=RULES.assess(kind, {"points": points}),
    )
    return replace(made, **changes)


def empty(*users: str) -> State:
    return State(players={user: PlayerState(user) for user in users}, scores={}, log={})


def slugs(decision: Decision) -> list[str]:
    return [one.slug if isinstance(one, Refusal) else type(one).__name__ for one in decision.outcomes]


def test_each_operator() -> None:
    """Increment adds, Best keeps the best and the time it was reached, Latest takes the last."""
    state = empty("u")
    decide(state, [update(action_id=str(points), kind="lap", points=points) for points in (50, 30)], RULES, NOW)
    assert {board: state.scores[board, "u"].score for board in ("default", "best", "latest")} == {
        "default": 80,
        "best": 50,
        "latest": 30,
    }
    assert state.scores["best", "u"].reached_at == NOW
    assert state.scores["default", "u"].reached_at == state.scores["best", "u"].last_updated == NOW + 1


def test_the_answer_and_the_changes() -> None:
    """The answer is of the first board; each board gives a change with the absolute state."""
    state = empty("u")
    decision = decide(state, [update(kind="lap", points=120)], RULES, NOW)
    (outcome,) = decision.outcomes
    assert isinstance(outcome, Accepted)
    assert (outcome.answer.score, outcome.answer.tier, outcome.answer.username) == (120, "silver", "U")
    assert outcome.answer.last_updated == "2027-01-15T08:00:00.000000Z"
    assert [(one.board, one.score, one.version, one.score_increase) for one in decision.changes] == [
        ("default", 120, 1, 120), ("best", 120, 1, 120), ("latest", 120, 1, 120),
    ]  # fmt: skip


def test_a_replay_in_the_same_batch() -> None:
    """Of duplicates in one batch the first counts and the others get its answer."""
    decision = decide(empty("u"), [update(), update(), update(body_sha256=b"other")], RULES, NOW)
    assert slugs(decision) == ["Accepted", "Replayed", "action-id-reused"]
    assert isinstance(decision.outcomes[0], Accepted)
    assert isinstance(decision.outcomes[1], Replayed)
    assert decision.outcomes[0].answer is decision.outcomes[1].answer
    assert len(decision.logged) == 1


def test_the_order_of_refusals() -> None:
    """Restriction, actionId, timestamp, action and data, limits: the first that fails answers."""
    state = empty("u")
    decide(state, [update(action_id=str(number)) for number in range(10)], RULES, NOW)
    stale = NOW - 301 * SECOND
    unknown = update(action_id="x", kind="nothing")
    assert slugs(decide(state, [replace(unknown, timestamp=stale)], RULES, NOW)) == ["stale-timestamp"]
    assert slugs(decide(state, [unknown], RULES, NOW)) == ["unknown-action"]
    assert slugs(decide(state, [update(action_id="x")], RULES, NOW)) == ["rate-limited"]
    assert slugs(decide(state, [update(action_id="3", timestamp=stale)], RULES, NOW)) == ["Replayed"]
    assert slugs(decide(state, [update(action_id="3", body_sha256=b"?", timestamp=stale)], RULES, NOW)) == [
        "action-id-reused"
    ]
    state.players["u"].restriction = "ban"
    assert slugs(decide(state, [update(action_id="3")], RULES, NOW)) == ["user-banned"]
    state.players["u"].restriction = "block"
    assert slugs(decide(state, [update(action_id="3")], RULES, NOW)) == ["blocked-by-anomaly"]
    state.players["u"].restricted_until = NOW
    assert slugs(decide(state, [update(action_id="3")], RULES, NOW)) == ["Replayed"]


def test_the_timestamp_may_be_off_by_exactly_the_bound() -> None:
    """300 s either way are accepted, a microsecond more is not."""
    for skew, expected in ((300 * SECOND, "Accepted"), (300 * SECOND + 1, "stale-timestamp")):
        for sign in (1, -1):
            one = update(timestamp=NOW + sign * skew)
            assert slugs(decide(empty("u"), [one], RULES, NOW)) == [expected]


def test_hidden_users_stay_hidden_on_new_boards() -> None:
    """A hidden user's updates count but show nowhere."""
    state = empty("u")
    state.players["u"].restriction = "hide"
    decision = decide(state, [update()], RULES, NOW)
    assert slugs(decision) == ["Accepted"]
    assert decision.changes[0].hidden


def test_scores_stay_in_their_range() -> None:
    """An update that would leave the exact range is refused, and changes nothing."""
    state = empty("u")
    big = update(action_id="1", kind="lap", points=MAX_SCORE)
    assert slugs(decide(state, [big, update(action_id="2"), update(action_id="3", kind="lose")], RULES, NOW)) == [
        "Accepted",
        "invalid-action-data",
        "Accepted",
    ]
    assert state.scores["default", "u"].score == MAX_SCORE - 3


def test_cooldown_and_cap_are_of_their_action_alone() -> None:
    """A refused action leaves the others, and the longest wait is told."""
    state = empty("u")
    kinds = ["combo", "combo", "rare", "rare", "rare", "win"]
    decision = decide(state, [update(action_id=str(i), kind=kind) for i, kind in enumerate(kinds)], RULES, NOW)
    assert slugs(decision) == ["Accepted", "rate-limited", "Accepted", "Accepted", "rate-limited", "Accepted"]
    refusals = [one for one in decision.outcomes if isinstance(one, Refusal)]
    assert [one.limit.policy for one in refusals if one.limit] == ["cooldown-combo", "action-rare"]
    assert refusals[0].retry_after == 5 * SECOND - 1
    assert slugs(decide(state, [update(action_id="x", kind="combo")], RULES, NOW + 5 * SECOND)) == ["Accepted"]


def test_a_clock_that_steps_back_neither_helps_nor_reorders() -> None:
    """After a failover to a slower clock the limit still holds and times still grow."""
    state = empty("u")
    decide(state, [update(action_id=str(number)) for number in range(9)], RULES, NOW)
    back = NOW - 30 * SECOND
    assert slugs(decide(state, [update(action_id="9"), update(action_id="10")], RULES, back)) == [
        "Accepted",
        "rate-limited",
    ]
    assert state.players["u"].recent == sorted(set(state.players["u"].recent))


steps = st.lists(
    st.tuples(
        st.sampled_from("uvw"),
        st.integers(0, 12),
        st.sampled_from(["win", "lose", "combo", "rare", "lap", "nothing"]),
        st.integers(0, 20),
        st.integers(0, 20 * SECOND),
    ),
    max_size=60,
)


@given(steps, st.data())
def test_any_history(history: list[tuple[str, int, str, int, int]], data: st.DataObject) -> None:
    """For any updates, cut into any batches: each action counts once, limits hold, versions grow by one each."""
    state = empty("u", "v", "w")
    now = NOW
    waiting = list(history)
    accepted: dict[tuple[str, str], Any] = {}
    times: dict[str, list[int]] = {"u": [], "v": [], "w": []}
    points: dict[str, int] = {"u": 0, "v": 0, "w": 0}
    versions: dict[tuple[str, str], int] = {}
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        batch, waiting = waiting[:size], waiting[size:]
        now += batch[0][4]
        updates = [update(user, f"id{number}", kind, worth, timestamp=now) for user, number, kind, worth, _ in batch]
        decision = decide(state, updates, RULES, now)
        for one, outcome in zip(updates, decision.outcomes, strict=True):
            key = one.user_id, one.action_id
            if isinstance(outcome, Accepted):
                assert key not in accepted
                accepted[key] = (one.body_sha256, outcome.answer)
                award = one.verdict
                assert not isinstance(award, Refusal)
                points[one.user_id] += award.points
                assert outcome.answer.score == points[one.user_id]
                assert outcome.answer.total_actions == len([True for user, _ in accepted if user == one.user_id])
            elif isinstance(outcome, Replayed):
                assert accepted[key] == (one.body_sha256, outcome.answer)
            elif outcome.slug == "action-id-reused":
                assert accepted[key][0] != one.body_sha256
            else:
                assert key not in accepted
        for one, _, at in decision.logged:
            times[one.user_id].append(at)
        for change in decision.changes:
            board = change.board, change.user_id
            assert change.version == versions.get(board, 0) + 1
            versions[board] = change.version
    for user, accepted_at in times.items():
        assert accepted_at == sorted(set(accepted_at))
        assert all(sum(start <= at < start + MINUTE for at in accepted_at) <= 10 for start in accepted_at)
        if user in {key[1] for key in versions}:
            assert state.scores["default", user].score == points[user]
