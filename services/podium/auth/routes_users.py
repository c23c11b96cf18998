"""Administration of users: ban, hide, block and lift, for tokens with the scope ``admin``."""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from podium.auth.context import AuthContext
from podium.auth.domain import MAX_SUBJECT_CHARS
from podium.auth.restrictions import Kind, UserState
from podium.common.authorization import authorized
from podium.common.client_address import client_ip
from podium.common.problems import FieldError, Problem, documented
from podium.common.tokens import Claims

MAX_REASON_CHARS: Final = 500
"""Characters of the reason that an admin gives."""

router = APIRouter(tags=["administration"])

Admin = Annotated[Claims, Depends(authorized("admin"))]
UserId = Annotated[str, Path(alias="userId", min_length=1, max_length=2 * MAX_SUBJECT_CHARS, pattern=r"^[^\x00]+$")]

_REFUSED: Final = documented(
    (400, "malformed-request"),
    (401, "token-missing"),
    (401, "token-invalid"),
    (401, "token-expired"),
    (403, "scope-missing"),
    (503, "database-unavailable"),
)
_UNKNOWN: Final = documented((404, "user-unknown"))


class _Model(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class RestrictionRequest(_Model):
    """Why, and until when."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    reason: str = Field(min_length=1, max_length=MAX_REASON_CHARS, pattern=r"^[^\x00]*$")
    until: AwareDatetime | None = Field(default=None, description="end of the restriction; for ever without it")


class LiftRequest(_Model):
    """Why a restriction is lifted."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    reason: str = Field(default="", max_length=MAX_REASON_CHARS, pattern=r"^[^\x00]*$")


class RestrictionDocument(_Model):
    """A restriction: `ban` refuses updates and hides from the rankings, `hide` only hides, `block` only refuses."""

    kind: Literal["ban", "hide", "block"]
    reason: str | None
    until: datetime | None


class HistoryEntry(_Model):
    """One act; `kind` is `none` where a restriction was lifted."""

    kind: str
    reason: str
    until: datetime | None
    actor: str
    created_at: datetime


class UserDocument(_Model):
    """A user as administrators see them."""

    user_id: str
    username: str
    total_actions: int
    restriction: RestrictionDocument | None


class UserDetail(UserDocument):
    """A user with what was done about them, newest first."""

    history: list[HistoryEntry]


class UserPage(_Model):
    """Restricted users; `next` continues the list."""

    users: list[UserDocument]
    next: str | None


def _context(request: Request) -> AuthContext:
    context: AuthContext = request.app.state.context
    return context


def _document(user: UserState) -> UserDocument:
    restriction = (
        RestrictionDocument.model_validate({"kind": user.kind, "reason": user.reason, "until": user.until})
        if user.kind
        else None
    )
    return UserDocument(
        user_id=user.user_id, username=user.username, total_actions=user.total_actions, restriction=restriction
    )


async def _change(
    request: Request, claims: Claims, user_id: str, kind: Kind | None, reason: str, until: datetime | None
) -> UserDocument:
    if until is not None and until <= datetime.now(UTC):
        error = FieldError(pointer="/until", detail="must lie in the future")
        raise Problem("malformed-request", 400, "the request is not valid", errors=[error])
    context = _context(request)
    await context.restrict(user_id, kind, reason=reason, until=until, actor=claims.sub, ip=client_ip(request.scope))
    return await _found(context, user_id)


async def _found(context: AuthContext, user_id: str) -> UserDocument:
    user = await context.restrictions.user(user_id)
    if user is None:
        raise Problem("user-unknown", 404, "the user is not known")
    return _document(user)


@router.get(
    "/api/v1/admin/users",
    operation_id="listRestrictedUsers",
    summary="List restricted users",
    responses=_REFUSED,
)
async def list_users(
    request: Request,
    _: Admin,
    restriction: Literal["ban", "hide", "block"] | None = None,
    after: Annotated[str, Query(max_length=2 * MAX_SUBJECT_CHARS, pattern=r"^[^\x00]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> UserPage:
    """Users with a restriction, in the order of their ids; `after` takes the `next` of the page before."""
    users = await _context(request).restrictions.restricted(kind=restriction, after=after, limit=limit + 1)
    page = users[:limit]
    return UserPage(users=[_document(user) for user in page], next=page[-1].user_id if len(users) > limit else None)


def _restricting(kind: Kind, summary: str) -> None:
    @router.post(
        f"/api/v1/admin/users/{{userId:path}}/{kind}",
        operation_id=f"{kind}User",
        name=f"{kind}_user",
        summary=summary,
        responses=_REFUSED,
    )
    async def restrict(request: Request, claims: Admin, user_id: UserId, body: RestrictionRequest) -> UserDocument:
        """Takes the place of any restriction before. A user who never scored may be restricted, too."""
        return await _change(request, claims, user_id, kind, body.reason, body.until)


_restricting("ban", "Refuse a user's updates and take them out of the rankings")
_restricting("hide", "Take a user out of the rankings")
_restricting("block", "Refuse a user's updates")


@router.post(
    "/api/v1/admin/users/{userId:path}/unban",
    operation_id="unbanUser",
    summary="Lift a user's restriction",
    responses={**_REFUSED, **_UNKNOWN},
)
async def unban(request: Request, claims: Admin, user_id: UserId, body: LiftRequest | None = None) -> UserDocument:
    """Lifts a ban, a hiding or a block; the user is back in the rankings exactly where their score puts them."""
    return await _change(request, claims, user_id, None, body.reason if body else "", None)


@router.get(
    "/api/v1/admin/users/{userId:path}",
    operation_id="getUser",
    summary="One user with their history",
    responses={**_REFUSED, **_UNKNOWN},
)
async def get_user(request: Request, _: Admin, user_id: UserId) -> UserDetail:
    """The user's restriction, and the last 100 acts about them."""
    context = _context(request)
    document = await _found(context, user_id)
    history = [
        HistoryEntry(
            kind=entry.kind, reason=entry.reason, until=entry.until, actor=entry.actor, created_at=entry.created_at
        )
        for entry in await context.restrictions.history(user_id)
    ]
    return UserDetail(**document.model_dump(), history=history)
