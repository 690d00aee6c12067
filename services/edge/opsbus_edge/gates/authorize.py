"""The gate that asks the policy whether this caller may do this."""

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.dispatch.order import Target
from opsbus_edge.gates.permission import deciding
from opsbus_edge.gates.policy import Policy
from opsbus_edge.model import Caller, error_body


def authorize(policy: Policy, caller: Caller, target: Target) -> tuple[ErrorBody | None, str]:
    """``(None, rule)`` when permitted, else ``(error, rule)``; the rule is the policy's line that decided."""
    needed = target.spec.permission
    permitted, glob = deciding(caller.permissions, needed)
    rule = policy.rule(caller.roles, glob) if glob else "default deny"
    if permitted:
        return None, rule
    roles = ", ".join(caller.roles) or "none"
    error = error_body(
        ErrorCode.FORBIDDEN,
        f"the permission {needed!r} is needed; your roles ({roles}) do not have it",
        hint="Ask whoever hands out roles.",
        details={"permission": needed},
    )
    return error, rule
