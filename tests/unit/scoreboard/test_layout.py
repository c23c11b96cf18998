"""How the answers of a board's shards become one ranking."""

from hypothesis import given
from hypothesis import strategies as st

from podium.scoreboard.layout import Entry, Place, around_of, first_of, ranked, shard_of, unsure

ENTRIES = st.builds(
    lambda score, time, user: Entry(score, f"{time:016d}:{user}".encode(), b"U"),
    st.sampled_from([0, 1, -1, -(10**15), 1 - 10**15]),
    st.integers(0, 2),
    st.integers(0, 60).map(str),
)
BOARDS = st.lists(ENTRIES, max_size=60, unique_by=lambda one: one.user_id)


def spread(board: list[Entry], shards: int) -> list[list[Entry]]:
    """Each shard's entries in order."""
    return [sorted(one for one in board if shard_of(one.user_id, shards) == shard) for shard in range(shards)]


@given(BOARDS, st.integers(1, 5), st.integers(1, 20), st.integers(1, 20))
def test_a_page_of_all_shards_is_exact(board: list[Entry], shards: int, asked: int, limit: int) -> None:
    """However few were asked for first, whoever may have more is asked again, and the merge is the whole board's."""
    whole, asked = spread(board, shards), min(asked, limit)
    parts = [part[:asked] for part in whole]
    again = unsure(parts, asked, limit) if asked < limit else []
    parts = [whole[index][:limit] if index in again else part for index, part in enumerate(parts)]
    assert first_of(parts, limit) == sorted(board)[:limit]


@given(BOARDS.filter(bool), st.integers(1, 5), st.integers(0, 5), st.data())
def test_neighbours_of_all_shards_are_exact(board: list[Entry], shards: int, around: int, data: st.DataObject) -> None:
    """Each shard gives what is next to the user in it; the nearest of all are the user's neighbours."""
    own = data.draw(st.sampled_from(board))
    parts, rank = [], 1
    for part in spread(board, shards):
        before = sum(one < own for one in part)
        parts.append(part[max(0, before - around) : before + around + 1])
        rank += before
    order = sorted(board)
    assert order.index(own) == rank - 1
    assert around_of(parts, own, around) == order[max(0, rank - 1 - around) : rank + around]


def test_the_user_who_moves_while_shards_are_read_stands_once() -> None:
    """What was found first stands for the user."""
    own = Entry(-5, b"0000000000000001:ann", b"Ann")
    moved = Entry(-9, b"0000000000000002:ann", b"Ann")
    other = Entry(-4, b"0000000000000001:ben", b"Ben")
    assert around_of([[moved, other]], own, 2) == [own, other]


def test_places_are_ranked_from_a_number_on() -> None:
    """Scores are negated in the sorted set."""
    (place,) = ranked([Entry(-(10**15), b"0000000000000001:a:b", "é".encode())], 7)
    assert (place.user_id, place.username, place.score, place.rank) == ("a:b", "é", 10**15, 7)


def test_one_shard_keeps_the_keys_of_a_whole_board() -> None:
    """Shards of several have tags of their own, which no board's name can make."""
    assert Place("default").prefix == "{board:default}:"
    assert Place("default", 2, 3).prefix == "{board:default:3.2}:"


@given(st.text(min_size=1), st.integers(1, 256))
def test_a_users_shard_is_stable(user: str, shards: int) -> None:
    """CRC-32 of the id: 0x8587D865 for "abcde" (RFC 3309 and others give check values)."""
    try:
        user.encode()
    except UnicodeEncodeError:
        return
    assert 0 <= shard_of(user, shards) < shards
    assert shard_of("abcde", 256) == 0x8587D865 % 256
    assert shard_of(user, 1) == 0
