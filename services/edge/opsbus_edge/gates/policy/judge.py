"""A policy's judgement on a call: permitted or not, by which line, approved how. Answering the caller: authorize.py."""

from collections.abc import Callable
from typing import NamedTuple

from opsbus.permission import Decision, Touched, decide, deciding
from opsbus_edge.gates.policy.policy import Granted, Policy
from opsbus_edge.gates.policy.rules import Approval

DEFAULT_DENY = "default deny"


class Judgement(NamedTuple):
    """What a policy says of a call."""

    permitted: bool
    needed: str
    """The permission that decided: the tool's own, or one that the policy demands beside it."""
    decision: Decision
    rule: str
    """``policy.yaml:12 operator allow k8s:*``, or ``default deny``."""
    approval: Approval = Approval.CONFIRM


def judge(
    policy: Policy,
    roles: tuple[str, ...],
    granted: Granted,
    needed: str,
    touches: Callable[[], Touched],
    tool: str = "",
) -> Judgement:
    """Judge a call.

    Args:
        granted: What the roles come to.
        needed: The permission that the target announces.
        touches: What the call touches; asked only where a condition may count.
        tool: MCP name; empty for what is no tool.
    """
    judgement = _one(policy, roles, granted, needed, touches)
    if not tool:
        return judgement
    needs = policy.needs(tool)
    for further in needs.requires:
        if judgement.permitted:
            judgement = _one(policy, roles, granted, further, touches)
    if judgement.permitted and needs.approval is Approval.TWO_PERSON:
        return judgement._replace(rule=needs.line, approval=needs.approval)
    return judgement._replace(approval=needs.approval)


def _one(
    policy: Policy, roles: tuple[str, ...], granted: Granted, needed: str, touches: Callable[[], Touched]
) -> Judgement:
    permitted, by = deciding(granted.permissions, needed)
    if granted.grants and not by.startswith("!"):
        decision = decide(granted.permissions, granted.grants, needed, touches())
    else:
        decision = Decision(permitted, by)
    rule = policy.rule(roles, decision.by) if decision.by else DEFAULT_DENY
    return Judgement(decision.permitted, needed, decision, rule)
