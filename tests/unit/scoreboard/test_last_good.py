"""Answers that are kept for bad times."""

from podium.scoreboard.last_good import LAST_GOOD_SECONDS, Kept, LastGood


def test_the_newest_answer_is_kept_until_it_is_forgotten() -> None:
    """One answer for each question."""
    now = [100.0]
    kept: LastGood[str, int] = LastGood(2, lambda: now[0])
    kept.keep("a", 1)
    kept.keep("a", 2)
    now[0] += 3
    assert kept.get("a") == Kept(2, 3.0)
    kept.forget("a")
    kept.forget("a")
    assert kept.get("a") is None


def test_the_question_answered_longest_ago_makes_room() -> None:
    """Memory is bounded."""
    kept: LastGood[str, int] = LastGood(2)
    for key in ("a", "b", "a", "c"):
        kept.keep(key, 1)
    assert [key for key in "abc" if kept.get(key)] == ["a", "c"]


def test_an_old_answer_is_none() -> None:
    """What was true long ago misleads."""
    now = [100.0]
    kept: LastGood[str, int] = LastGood(2, lambda: now[0])
    kept.keep("a", 1)
    now[0] += LAST_GOOD_SECONDS
    assert kept.get("a") == Kept(1, LAST_GOOD_SECONDS)
    now[0] += 1
    assert kept.get("a") is None
