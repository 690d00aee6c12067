"""Who is asking: bearer tokens, and impersonation by headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from multidict import CIMultiDict, CIMultiDictProxy

from opsbus_sandbox.kube.errors import ApiError, bad_request, unauthorized
from opsbus_sandbox.kube.rbac import Authorizer, Question

Headers = CIMultiDict[str] | CIMultiDictProxy[str]


@dataclass(frozen=True)
class User:
    """An authenticated identity."""

    name: str
    groups: tuple[str, ...] = ()


class Known(Protocol):
    """Whose tokens are whose."""

    def get(self, token: str, /) -> User | None:
        """The user of a token."""


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


def authenticate(headers: Headers, tokens: Known) -> User:
    """The user a request's bearer token stands for. No credential is the anonymous user; a wrong one is 401."""
    header = headers.get("Authorization", "")
    if not header:
        return ANONYMOUS
    scheme, _, token = header.partition(" ")
    user = tokens.get(token.strip()) if scheme.lower() == "bearer" else None
    if user is None:
        raise unauthorized()
    return _with_standing_groups(user)


def impersonated(user: User, headers: Headers, authorizer: Authorizer) -> User:
    """The user the request wants to be, when `user` may be them; else `user` itself. Raises ApiError 403 or 400."""
    name = headers.get("Impersonate-User", "")
    groups = tuple(headers.getall("Impersonate-Group", []))
    extras = [header for header in headers if header.lower().startswith(("impersonate-extra-", "impersonate-uid"))]
    if not name:
        if groups or extras:
            raise bad_request(f"requested {groups or extras} without impersonating a user")
        return user
    _require(user, _user_question(name), authorizer)
    for group in groups:
        _require(user, Question("impersonate", "", "groups", group), authorizer)
    for header in extras:
        kind = "uids" if header.lower() == "impersonate-uid" else f"userextras/{header[len('impersonate-extra-') :]}"
        _require(user, Question("impersonate", "authentication.k8s.io", kind, headers[header]), authorizer)
    return _with_asked_groups(User(name, groups))


def _user_question(name: str) -> Question:
    parts = name.split(":")
    if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"]:
        return Question("impersonate", "", "serviceaccounts", parts[3], namespace=parts[2])
    return Question("impersonate", "", "users", name)


def _require(user: User, question: Question, authorizer: Authorizer) -> None:
    if not authorizer.allows(user.name, user.groups, question):
        raise denied(user, question)


def _with_standing_groups(user: User) -> User:
    """Add the groups the API server adds to everybody it knows."""
    groups = list(user.groups)
    parts = user.name.split(":")
    if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"]:
        groups += ["system:serviceaccounts", f"system:serviceaccounts:{parts[2]}"]
    if user.name != ANONYMOUS.name:
        groups.append("system:authenticated")
    return User(user.name, tuple(dict.fromkeys(groups)))


def _with_asked_groups(user: User) -> User:
    """Whoever is impersonated has the groups that were asked for. A service account gets its own where none were."""
    if not user.groups:
        user = _with_standing_groups(user)
    kept = ("system:authenticated", "system:unauthenticated")
    if any(group in kept for group in user.groups) and user.name != ANONYMOUS.name:
        return user
    added = kept[user.name == ANONYMOUS.name]
    return User(user.name, tuple(dict.fromkeys((*user.groups, added))))


def denied(user: User, question: Question) -> ApiError:
    """403 in the words of the API server."""
    if question.path:
        message = f'forbidden: User "{user.name}" cannot {question.verb} path "{question.path}"'
        return ApiError(403, "Forbidden", message, {})
    resource = question.resource.partition("/")[0]
    subject = f"{resource}.{question.group}" if question.group else resource
    if question.name:
        subject += f' "{question.name}"'
    where = f'in the namespace "{question.namespace}"' if question.namespace else "at the cluster scope"
    message = (
        f'{subject} is forbidden: User "{user.name}" cannot {question.verb} resource "{question.resource}" '
        f'in API group "{question.group}" {where}'
    )
    details = {"name": question.name, "group": question.group, "kind": resource}
    return ApiError(403, "Forbidden", message, {key: value for key, value in details.items() if value})
