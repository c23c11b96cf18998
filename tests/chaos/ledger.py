"""The ledger: every actionId that clients sent and every answer they got, compared with what the system holds. Pure.

An update is *acknowledged* by a 200. It is *lost* where the system does not hold it, *double* where the system counted
it more often than clients were told, and whatever else disagrees is *differing*: an answer, a ranking, a watcher's top.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

BEST, LATEST = "chaos-best", "chaos-latest"
"""Boards on which a player's greatest, and newest, value counts."""

VALUE = "chaos-value"
"""The action that brings a value there."""

_Row = TypeVar("_Row", bound=tuple[object, ...])


class Key(NamedTuple):
    """What makes an update unique."""

    user_id: str
    action_id: str


class Answer(NamedTuple):
    """What a 200 said, and what ``action_log`` keeps as the first answer."""

    score: int
    increase: int
    total_actions: int


class Place(NamedTuple):
    """One row of a ranking as clients see it."""

    rank: int
    user_id: str
    username: str
    score: int


class Standing(NamedTuple):
    """One row of a ranking as stores hold it; ``reached_at`` in microseconds since 1970."""

    user_id: str
    score: int
    reached_at: int


@dataclass(frozen=True)
class Ranking:
    """A whole board by SQL, in its order: as clients should see it, and as Redis should hold it."""

    places: Sequence[Place]
    standings: Sequence[Standing]


class Balance(NamedTuple):
    """A user's score, and the number of rows in ``action_log``."""

    score: int
    rows: int


@dataclass
class Ledger:
    """What clients know."""

    answers: dict[Key, list[Answer]] = field(default_factory=dict)
    refused: dict[Key, str] = field(default_factory=dict)
    """Updates that were refused for good, with the problem's slug."""
    unsettled: set[Key] = field(default_factory=set)
    """Updates that were sent and whose fate the client does not know yet."""
    opening: Mapping[str, "Balance"] = field(default_factory=dict)
    """What users had before the first update."""
    opening_values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By board and user: the values on the boards for values before the first update."""
    values: dict[Key, int] = field(default_factory=dict)
    """The updates that brought a value; they count for the boards for values and for no other."""

    def sent(self, key: Key, value: int | None = None) -> None:
        """An update is on its way, perhaps with a value."""
        self.unsettled.add(key)
        if value is not None:
            self.values[key] = value

    def answered(self, key: Key, answer: Answer) -> None:
        """A 200 came; one for each time that the update was sent, if the client is told each time."""
        self.unsettled.discard(key)
        self.answers.setdefault(key, []).append(answer)

    def refuse(self, key: Key, slug: str) -> None:
        """The update was refused for good."""
        self.unsettled.discard(key)
        self.refused[key] = slug

    def totals(self) -> dict[str, int]:
        """The score that acknowledged updates make for each user, with what the user had before."""
        totals: dict[str, int] = defaultdict(int, {user_id: had.score for user_id, had in self.opening.items()})
        for key, answers in self.answers.items():
            if key not in self.values:
                totals[key.user_id] += answers[0].increase
        return dict(totals)

    def standings(self) -> dict[str, dict[str, int]]:
        """By board and user: what acknowledged values make. A user sends one after the other, so the last is newest."""
        best, latest = (dict(self.opening_values.get(board, {})) for board in (BEST, LATEST))
        for key in self.answers:
            if key in self.values:
                value = self.values[key]
                best[key.user_id] = max(value, best.get(key.user_id, value))
                latest[key.user_id] = value
        return {BEST: best, LATEST: latest}

    def counts(self) -> dict[str, int]:
        """How many updates of each user were acknowledged, with those before."""
        before = Counter({user_id: had.rows for user_id, had in self.opening.items()})
        return dict(before + Counter(key.user_id for key in self.answers))


@dataclass(frozen=True)
class Books:
    """What PostgreSQL holds of the ledger's users.

    ``log`` has the rows of ``action_log`` for the keys that were asked for, ``rows`` how many there are in all by user,
    ``scores`` the user's row of ``user_score``, ``values`` by board and user those of the boards for values.
    """

    log: Mapping[Key, Sequence[Answer]]
    rows: Mapping[str, int]
    scores: Mapping[str, int]
    values: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def balances(self) -> dict[str, Balance]:
        """What each user has."""
        users = {*self.rows, *self.scores}
        return {user_id: Balance(self.scores.get(user_id, 0), self.rows.get(user_id, 0)) for user_id in users}


@dataclass
class Verdict:
    """The findings, a sentence each; an empty one is what is wanted."""

    lost: list[str] = field(default_factory=list)
    double: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not (self.lost or self.double or self.differing)

    def findings(self) -> list[str]:
        """All sentences."""
        kinds = {"lost": self.lost, "double": self.double, "differing": self.differing}
        return [f"{kind}: {sentence}" for kind, sentences in kinds.items() for sentence in sentences]


def audit(ledger: Ledger, books: Books, keys: Iterable[Key] | None = None) -> Verdict:
    """Compare the ledger with PostgreSQL: single updates of ``keys`` (all if None), and every user's sum and count."""
    verdict = Verdict()
    for key in ledger.answers if keys is None else keys:
        _audit_update(verdict, key, ledger.answers.get(key, []), books.log.get(key, ()))
    totals, counts = ledger.totals(), ledger.counts()
    for user_id in {key.user_id for key in (*ledger.answers, *ledger.refused, *ledger.unsettled)}:
        told, held = totals.get(user_id, 0), books.scores.get(user_id, 0)
        if held < told:
            verdict.lost.append(f"user_score of {user_id} is {held}, acknowledged were {told}")
        elif held > told:
            verdict.double.append(f"user_score of {user_id} is {held}, acknowledged were {told}")
        rows, count = books.rows.get(user_id, 0), counts.get(user_id, 0)
        if rows > count:
            verdict.double.append(f"action_log has {rows} rows of {user_id}, acknowledged were {count}")
        elif rows < count:
            verdict.lost.append(f"action_log has {rows} rows of {user_id}, acknowledged were {count}")
    for board, wanted in ledger.standings().items():
        for user_id, value in wanted.items():
            held = books.values.get(board, {}).get(user_id, 0)
            if held != value:
                (verdict.lost if held < value else verdict.differing).append(
                    f"user_score of {user_id} on {board} is {held}, acknowledged was {value}"
                )
    verdict.differing += [f"{key} never came to an end" for key in ledger.unsettled]
    return verdict


def _audit_update(verdict: Verdict, key: Key, answers: Sequence[Answer], rows: Sequence[Answer]) -> None:
    if not answers:
        return
    if not rows:
        verdict.lost.append(f"{key} was acknowledged and is not in action_log")
    if len(rows) > 1:
        verdict.double.append(f"{key} has {len(rows)} rows in action_log")
    if len({*answers, *rows}) > 1:
        verdict.differing.append(f"{key} was answered with {sorted(set(answers))}, action_log has {sorted(set(rows))}")


def places_of(rankings: Iterable[Mapping[str, Any]]) -> list[Place]:
    """The rows of an answer or a message of the API."""
    return [Place(row["rank"], row["userId"], row["username"], row["score"]) for row in rankings]


def differences(name: str, shown: Sequence[_Row], truth: Sequence[_Row]) -> list[str]:
    """Where a ranking that is shown differs from the true one; places count from 1."""
    if list(shown) == list(truth):
        return []
    found = [
        f"{name}: place {place} shows {tuple(one)}, is {tuple(other)}"
        for place, (one, other) in enumerate(zip(shown, truth, strict=False), start=1)
        if one != other
    ]
    if len(shown) != len(truth):
        found.append(f"{name}: shows {len(shown)} places, there are {len(truth)}")
    return found
