"""The ledger finds what was lost, counted twice or told differently, and nothing else."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.ledger import (
    BEST,
    LATEST,
    Answer,
    Balance,
    Books,
    Key,
    Ledger,
    Place,
    Standing,
    audit,
    differences,
    places_of,
)

ANN, BOB = "ann", "bob"


def _books(ledger: Ledger) -> Books:
    """What a system holds that did all right."""
    log = {key: [answers[0]] for key, answers in ledger.answers.items()}
    return Books(log, dict(Counter(key.user_id for key in log)), ledger.totals())


def _played(updates: list[tuple[str, int]]) -> Ledger:
    ledger = Ledger()
    scores: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for number, (user_id, points) in enumerate(updates):
        scores[user_id] += points
        counts[user_id] += 1
        key = Key(user_id, f"action-{number}")
        ledger.sent(key)
        ledger.answered(key, Answer(scores[user_id], points, counts[user_id]))
    return ledger


def _two() -> Ledger:
    return _played([(ANN, 10), (BOB, 10), (ANN, 25)])


UPDATES = st.lists(st.tuples(st.sampled_from([ANN, BOB, "cy"]), st.integers(1, 50)), min_size=1, max_size=20)


@given(UPDATES)
def test_a_system_that_did_all_right_is_clean(updates: list[tuple[str, int]]) -> None:
    """Whatever was played, a system that holds it once each has no findings."""
    ledger = _played(updates)
    assert audit(ledger, _books(ledger)).clean


@given(UPDATES, st.data())
def test_any_missing_update_is_lost(updates: list[tuple[str, int]], data: st.DataObject) -> None:
    """Whichever update is missing from the books, it is found, and nothing is called double."""
    ledger = _played(updates)
    gone = data.draw(st.sampled_from(sorted(ledger.answers)))
    kept = Ledger({key: answers for key, answers in ledger.answers.items() if key != gone})
    verdict = audit(ledger, _books(kept))
    assert any(str(gone) in sentence for sentence in verdict.lost)
    assert not verdict.double


def test_a_score_below_what_was_acknowledged_is_lost() -> None:
    """The log may be whole, and the score still miss an update."""
    ledger = _two()
    held = _books(ledger)
    assert audit(ledger, Books(held.log, held.rows, {ANN: 25, BOB: 10})).lost


def test_a_score_above_what_was_acknowledged_is_double() -> None:
    """An update that was added twice shows in the score."""
    ledger = _two()
    held = _books(ledger)
    assert audit(ledger, Books(held.log, held.rows, {ANN: 45, BOB: 10})).double


def test_an_action_in_the_log_twice_is_double() -> None:
    """One actionId has one row, in whatever partition."""
    ledger = _two()
    held = _books(ledger)
    key = Key(BOB, "action-1")
    log = {**held.log, key: [*held.log[key], *held.log[key]]}
    assert audit(ledger, Books(log, held.rows, held.scores)).double


def test_a_row_nobody_was_told_of_is_double() -> None:
    """An update that was refused, or that nobody sent, must not be in the log."""
    ledger = _two()
    ledger.refuse(Key(ANN, "late"), "stale-timestamp")
    held = _books(ledger)
    assert audit(ledger, Books(held.log, {**held.rows, ANN: 3}, held.scores)).double


def test_two_answers_to_one_action_must_be_the_same() -> None:
    """A repeat gets the first answer."""
    ledger = _two()
    ledger.answered(Key(BOB, "action-1"), Answer(20, 10, 2))
    assert audit(ledger, _books(ledger)).differing


def test_the_answer_must_be_the_one_in_the_log() -> None:
    """What a client was told is what was written down."""
    ledger = _two()
    held = _books(ledger)
    log = {**held.log, Key(BOB, "action-1"): [Answer(10, 10, 9)]}
    assert audit(ledger, Books(log, held.rows, held.scores)).differing


def test_an_update_without_an_end_is_a_finding() -> None:
    """A client that repeats always ends at the truth."""
    ledger = _two()
    ledger.sent(Key(ANN, "open"))
    assert audit(ledger, _books(ledger)).differing == [f"{Key(ANN, 'open')} never came to an end"]


def test_only_the_keys_that_are_asked_for_are_looked_up() -> None:
    """A part of the log can be compared, with the sums and counts of all."""
    ledger = _two()
    held = _books(ledger)
    asked = Key(ANN, "action-2")
    assert audit(ledger, Books({asked: held.log[asked]}, held.rows, held.scores), [asked]).clean


def test_what_users_had_before_is_not_the_ledger_s() -> None:
    """Players of an earlier run play on; their first scores and rows are carried forward."""
    ledger = _two()
    held = _books(ledger)
    ledger.opening = Books({}, {ANN: 4}, {ANN: 100}).balances()
    assert ledger.opening == {ANN: Balance(100, 4)}
    assert audit(ledger, Books(held.log, {ANN: 6, BOB: 1}, {ANN: 135, BOB: 10})).clean
    assert not audit(ledger, held).clean


def test_rankings_are_compared_place_by_place() -> None:
    """Order, names, scores and length count."""
    truth = [Place(1, ANN, "Ann", 35), Place(2, BOB, "Bob", 10)]
    assert differences("view", truth, truth) == []
    assert differences("view", truth[::-1], truth) == [
        "view: place 1 shows (2, 'bob', 'Bob', 10), is (1, 'ann', 'Ann', 35)",
        "view: place 2 shows (1, 'ann', 'Ann', 35), is (2, 'bob', 'Bob', 10)",
    ]
    assert differences("view", truth[:1], truth) == ["view: shows 1 places, there are 2"]
    assert differences("view", [truth[0]._replace(username="Anne")], truth[:1])


def test_equal_scores_are_in_the_order_of_their_times() -> None:
    """What a store holds differs from the truth where only the time is another."""
    truth = [Standing(ANN, 10, 1_000_000), Standing(BOB, 10, 2_000_000)]
    assert differences("store", truth, truth) == []
    assert differences("store", [truth[0], truth[1]._replace(reached_at=2_000_001)], truth)


def test_a_place_is_read_from_the_published_form() -> None:
    """With its rank, its name and its score."""
    row = {"userId": ANN, "username": "Ann", "score": 35, "rank": 1}
    assert places_of([row]) == [Place(1, ANN, "Ann", 35)]


def test_values_count_on_their_boards_alone() -> None:
    """The greatest and the newest, with what was there before; a system that holds another one is found out."""
    ledger = Ledger(opening_values={BEST: {ANN: 9}, LATEST: {ANN: 9}})
    for number, value in enumerate((7, 30, 12)):
        key = Key(ANN, f"value-{number}")
        ledger.sent(key, value)
        ledger.answered(key, Answer(0, value, number + 1))
    assert ledger.standings() == {BEST: {ANN: 30}, LATEST: {ANN: 12}}
    assert ledger.totals() == {}
    log = {key: answers[:1] for key, answers in ledger.answers.items()}
    right = Books(log, {ANN: 3}, {}, ledger.standings())
    assert audit(ledger, right).clean
    assert audit(ledger, Books(log, {ANN: 3}, {}, {BEST: {ANN: 12}, LATEST: {ANN: 12}})).lost
    assert audit(ledger, Books(log, {ANN: 3}, {}, {BEST: {ANN: 30}, LATEST: {ANN: 30}})).differing
    assert audit(ledger, Books(log, {ANN: 3}, {ANN: 12}, ledger.standings())).differing == []
