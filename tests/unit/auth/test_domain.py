"""Rules of the token endpoint, and rotation against a naive model."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.auth.domain import (
    GRACE_SECONDS,
    OAuthError,
    Refresh,
    RefreshToken,
    Session,
    access_lifetime,
    check_subject,
    check_username,
    decide_refresh,
    grant_scope,
    parse_form,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
SESSION = Session("sid", "game", "u1", "Ann", "scores:write", START + timedelta(hours=24))


def _at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Family:
    """A family of tokens as the store keeps it, driven by decisions alone."""

    def __init__(self) -> None:
        self.tokens = [RefreshToken()]
        self.successors: list[int | None] = [None]
        self.revoked = False

    def present(self, index: int, now: datetime) -> int | None:
        """Present a token; gives the number of the one issued, None for a refusal."""
        session = Session("s", "c", "u", "n", "x", SESSION.expires_at, now if self.revoked else None)
        token, following = self.tokens[index], self.successors[index]
        decision = decide_refresh(session, token, None if following is None else self.tokens[following], now)
        if decision is Refresh.REUSE:
            self.revoked = True
        if decision not in {Refresh.ROTATE, Refresh.GRACE}:
            return None
        closed = None
        if decision is Refresh.GRACE:
            assert following is not None
            self.tokens[following] = RefreshToken(None, None, now)
            closed = now
        self.tokens.append(RefreshToken())
        self.successors.append(None)
        self.tokens[index] = RefreshToken(token.used_at or now, b"x", closed)
        self.successors[index] = len(self.tokens) - 1
        return len(self.tokens) - 1


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 15)), max_size=25))
def test_at_most_one_token_of_a_family_is_ever_good_for_rotation(steps: list[tuple[int, float]]) -> None:
    """Whatever is presented, whenever: one unused living token at most, and none once the family is revoked."""
    family, clock = Family(), 0.0
    for index, wait in steps:
        clock += wait
        family.present(min(index, len(family.tokens) - 1), _at(clock))
        living = [token for token in family.tokens if token.used_at is None and token.revoked_at is None]
        assert len(living) == 1
        if family.revoked:
            assert all(family.present(number, _at(clock)) is None for number in range(len(family.tokens)))


@given(st.lists(st.tuples(st.integers(0, 6), st.floats(0, 15)), max_size=25))
def test_no_token_is_good_more_than_twice_and_the_second_time_only_in_the_grace(
    steps: list[tuple[int, float]],
) -> None:
    """The naive reference: first use, then once more within ten seconds while the successor is unused."""
    family, clock = Family(), 0.0
    uses: dict[int, list[float]] = {}
    made_by: dict[int, int] = {}
    for wanted, wait in steps:
        clock += wait
        index = min(wanted, len(family.tokens) - 1)
        issued = family.present(index, _at(clock))
        if issued is None:
            continue
        before = uses.setdefault(index, [])
        if before:
            assert len(before) == 1
            assert clock - before[0] <= GRACE_SECONDS + 1e-5
            assert not uses.get(made_by[index])
        before.append(clock)
        made_by[index] = issued


def test_the_grace_holds_to_its_last_moment() -> None:
    """At ten seconds it holds, later it does not."""
    used = RefreshToken(used_at=_at(0), successor=b"n")
    assert decide_refresh(SESSION, used, RefreshToken(), _at(GRACE_SECONDS)) is Refresh.GRACE
    assert decide_refresh(SESSION, used, RefreshToken(), _at(GRACE_SECONDS + 0.001)) is Refresh.REUSE


def test_a_session_that_is_over_is_refused_without_alarm() -> None:
    """Expired or revoked: nothing to revoke, nobody to warn."""
    assert decide_refresh(SESSION, RefreshToken(), None, SESSION.expires_at) is Refresh.DEAD
    over = Session("s", "c", "u", "n", "x", SESSION.expires_at, _at(0))
    assert decide_refresh(over, RefreshToken(used_at=_at(0)), None, _at(100)) is Refresh.DEAD


def test_no_access_token_outlives_its_session() -> None:
    """The lifetime is cut at the session's end."""
    assert access_lifetime(SESSION, 300, _at(0)) == 300
    assert access_lifetime(SESSION, 300, SESSION.expires_at - timedelta(seconds=20)) == 20


def test_forms_are_read_strictly() -> None:
    """Empty parameters count as left out; repeated and malformed ones are refused."""
    assert parse_form(b"a=1&b=&c=x%20y+z") == {"a": "1", "c": "x y z"}
    assert parse_form(b"") == {}
    for bad in (b"a=1&a=2", b"a=1&a=", b"a", b"a=%ff", b"\xff=1", b"&".join(b"a%d=1" % n for n in range(30))):
        with pytest.raises(OAuthError):
            parse_form(bad)


@pytest.mark.parametrize("subject", ["a:b", "game", "", " a", "a\x00", "a\u202e", "x" * 129])
def test_subjects_that_are_refused(subject: str) -> None:
    """Colons are external users', client ids are clients', paths cannot hold slashes, the rest could not be shown."""
    with pytest.raises(OAuthError):
        check_subject(subject, {"game"})


def test_subjects_and_names_may_be_of_any_script() -> None:
    """Printable text of any language is fine, emoji sequences too."""
    assert check_subject("игрок-1 ü", {"game"}) == "игрок-1 ü"
    assert check_username("👩‍🚀 Ann") == "👩‍🚀 Ann"


def test_scopes_are_granted_whole_or_refused() -> None:
    """What is asked for must be allowed; nothing asked for gives the default as far as allowed."""
    allowed = {"scores:write", "admin"}
    assert grant_scope("admin scores:write", allowed, ()) == "scores:write admin"
    assert grant_scope(None, allowed, {"scores:write", "scoreboard:read"}) == "scores:write"
    for bad in ("root", "scoreboard:read", "admin  scores:write", " admin", 'ad"min'):
        with pytest.raises(OAuthError):
            grant_scope(bad, allowed, ())
    with pytest.raises(OAuthError):
        grant_scope(None, set(), {"scores:write"})
