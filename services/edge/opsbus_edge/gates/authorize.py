"""The gate that asks the policy whether this caller may do this, to this, and how it has to be approved."""

from typing import NamedTuple

import orjson

from opsbus.permission import Touched, fits, said, touched
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.catalog import ToolEntry
from opsbus_edge.dispatch.order import Target
from opsbus_edge.gates.policy import Approval, Granted, Policy
from opsbus_edge.gates.policy.judge import Judgement, judge
from opsbus_edge.model import Caller, Request, error_body

OUT_OF_SCOPE = "scopes of the token"


class Ruling(NamedTuple):
    """What becomes of a call."""

    error: ErrorBody | None
    """None: it may go on."""
    rule: str
    """The line of the policy that decided."""
    approval: Approval


def authorize(policy: Policy, request: Request, target: Target) -> Ruling:
    """Decide on a call by its caller, target and arguments."""
    caller = request.caller
    tool = target.name if isinstance(target, ToolEntry) else ""
    granted = Granted(caller.permissions, caller.grants, caller.role_key)
    found = judge(policy, caller.roles, granted, target.spec.permission, lambda: _touched(request, target), tool)
    if found.permitted and caller.scopes is not None and not fits(caller.scopes, target.spec.permission):
        # Faces ask for the scope before they come here; this holds whatever face there is.
        return Ruling(_out_of_scope(target.spec.permission), OUT_OF_SCOPE, found.approval)
    if not found.permitted:
        return Ruling(_forbidden(caller, found), found.rule, found.approval)
    if found.approval is Approval.TWO_PERSON and not (isinstance(target, ToolEntry) and target.two_person):
        return Ruling(_no_second_person(tool), found.rule, found.approval)
    return Ruling(None, found.rule, found.approval)


def _touched(request: Request, target: Target) -> Touched:
    if not isinstance(target, ToolEntry):
        return {}
    try:
        arguments = orjson.loads(request.params)
    except orjson.JSONDecodeError:
        return {}  # states nothing; the worker says what is wrong with it
    return touched(arguments, target.spec.scope)


def _out_of_scope(permission: str) -> ErrorBody:
    return error_body(
        ErrorCode.FORBIDDEN,
        f"the scopes of the token do not cover {permission!r}",
        hint="Ask the authorization server for a token with more scopes.",
        details={"permission": permission},
    )


def _no_second_person(tool: str) -> ErrorBody:
    return error_body(
        ErrorCode.FORBIDDEN,
        f"the policy wants a second person to approve calls of {tool}, and not every worker of it waits for one",
        hint="Ask whoever runs the service for a worker that announces two_person, or whoever writes the policy.",
    )


def _forbidden(caller: Caller, found: Judgement) -> ErrorBody:
    roles = ", ".join(caller.roles) or "none"
    decision = found.decision
    if decision.possible:
        return error_body(
            ErrorCode.FORBIDDEN,
            f"your roles ({roles}) permit {found.needed!r}, but not for what this call touches",
            hint=f"Permitted: {'; '.join(said(grant) for grant in decision.possible[:5])}. Name it in the arguments.",
            details={"permission": found.needed},
        )
    if " where " in decision.by:
        return error_body(
            ErrorCode.FORBIDDEN,
            f"the policy denies {decision.by[1:]}",
            hint="Name something else in the arguments, or ask whoever hands out roles.",
            details={"permission": found.needed},
        )
    return error_body(
        ErrorCode.FORBIDDEN,
        f"the permission {found.needed!r} is needed; your roles ({roles}) do not have it",
        hint="Ask whoever hands out roles.",
        details={"permission": found.needed},
    )
