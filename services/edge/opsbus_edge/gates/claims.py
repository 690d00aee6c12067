"""A token's claims become a proved identity: who, with which roles and scopes."""

from collections.abc import Mapping, Sequence
from typing import Any

from opsbus_edge.gates.proof import Proven, refuse
from opsbus_edge.model import Denied

ROLES_MAX = 64
CLAIM_VALUES_MAX = 1_000
SCOPES_MAX = 256


def subject_of(claims: Mapping[str, Any]) -> str | Denied:
    """``sub``, fit to be kept."""
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 0 < len(sub) <= 256 or not sub.isprintable():
        return refuse("the token's sub must be 1 to 256 printable characters")
    return sub


def provider_proven(
    claims: Mapping[str, Any], paths: Sequence[str], roles: Mapping[str, Sequence[str]], *, scoped: bool
) -> Proven | Denied:
    """Whom a provider's token speaks for.

    Args:
        paths: Claims that hold roles or groups.
        roles: Roles by such a value; empty: the values are the roles.
        scoped: The token's scopes narrow what the roles permit.
    """
    sub = subject_of(claims)
    if isinstance(sub, Denied):
        return sub
    values: list[str] = []
    for path in paths:
        values += _at(claims, path)
    if len(values) > CLAIM_VALUES_MAX:
        return refuse(f"the token names more than {CLAIM_VALUES_MAX} roles and groups")
    named = [role for value in values for role in roles.get(value, ())] if roles else values
    known = tuple(sorted({role for role in named if 0 < len(role) <= 64}))
    if len(known) > ROLES_MAX:
        return refuse(f"the token has more than {ROLES_MAX} roles")
    return Proven(sub, known, "oauth", scopes=scopes_of(claims) if scoped else None)


def scopes_of(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """``scope`` (a text) or ``scp`` (a list or a text)."""
    given = claims.get("scope", claims.get("scp", ""))
    found = given.split(" ") if isinstance(given, str) else given if isinstance(given, list) else []
    return tuple(sorted({one for one in found[:SCOPES_MAX] if isinstance(one, str) and one}))


def _at(claims: Mapping[str, Any], path: str) -> list[str]:
    value: Any = claims.get(path)
    if value is None:
        value = claims
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    items = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, str)]
