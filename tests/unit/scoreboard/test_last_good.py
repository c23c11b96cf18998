"""Answers that are kept for bad times."""

from podium.scoreboard.last_good import LastGood


def test_the_newest_answer_is_kept_until_it_is_forgotten() -> None:
    """One answer for each question."""
    kept: LastGood[str, int] = LastGood(2)
    kept.keep("a", 1)
    kept.keep("a", 2)
    assert kept.get("a") == 2
    kept.forget("a")
    kept.forget("a")
    assert kept.get("a") is None


def test_the_question_answered_longest_ago_makes_room() -> None:
    """Memory is bounded."""
    kept: LastGood[str, int] = LastGood(2)
    for key in ("a", "b", "a", "c"):
        kept.keep(key, 1)
    assert [key for key in "abc" if kept.get(key)] == ["a", "c"]
