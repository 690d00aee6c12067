"""A policy in force: roles come to permissions and grants, decisions to the line that made them."""

import hashlib
from fnmatch import fnmatchcase
from typing import NamedTuple

from opsbus_contracts.identity import Grant
from opsbus_edge.gates.policy.rules import Approval, Entry, Role, ToolRule

CACHE_MAX = 10_000


class Granted(NamedTuple):
    """What a set of roles comes to."""

    permissions: tuple[str, ...]
    """Globs, sorted; those that deny begin with ``!``."""
    grants: tuple[Grant, ...]
    """Under conditions."""
    role_key: str
    """Equal for those who may the same."""


class ToolNeeds(NamedTuple):
    """What a policy demands of calls of a tool, beside the tool's own permission."""

    requires: tuple[str, ...] = ()
    approval: Approval = Approval.CONFIRM
    line: str = ""
    """Where the approval stands."""


class Policy:
    """Roles and what they may. It is exchanged as a whole: ``take`` puts another's content in force."""

    def __init__(self, roles: dict[str, Role], tools: list[ToolRule], name: str, digest: str) -> None:
        self._roles = roles
        self._tools = tools
        self._name = name
        self.digest = digest
        """Of the text: events name the policy that decided by it."""
        self._granted: dict[tuple[str, ...], Granted] = {}
        self._lines: dict[tuple[tuple[str, ...], str], str] = {}
        self._needs: dict[str, ToolNeeds] = {}

    def take(self, other: "Policy") -> None:
        """Be the other policy from now on."""
        self._roles, self._tools = other._roles, other._tools
        self._name, self.digest = other._name, other.digest
        self._granted, self._lines, self._needs = {}, {}, {}

    @property
    def roles(self) -> list[str]:
        """The names of roles."""
        return sorted(self._roles)

    def grant(self, roles: tuple[str, ...]) -> Granted:
        """What these roles permit together; a role that the policy does not know permits nothing."""
        known = tuple(sorted({role for role in roles if role in self._roles}))
        found = self._granted.get(known)
        if found is None:
            found = self._granted[known] = self._resolve(known)
        return found

    def needs(self, tool: str) -> ToolNeeds:
        """What calls of a tool (MCP name) need beside its own permission. Of approvals the first that fits counts."""
        found = self._needs.get(tool)
        if found is None:
            if len(self._needs) > CACHE_MAX:
                self._needs.clear()
            fitting = [rule for rule in self._tools if fnmatchcase(tool, rule.tool)]
            requires = dict.fromkeys(permission for rule in fitting for permission in rule.requires)
            asked = next((rule for rule in fitting if rule.approval is not None), None)
            found = self._needs[tool] = ToolNeeds(
                tuple(requires),
                asked.approval if asked is not None and asked.approval is not None else Approval.CONFIRM,
                f"{self._name}:{asked.line} approval of {asked.tool}" if asked is not None else "",
            )
        return found

    def rule(self, roles: tuple[str, ...], by: str) -> str:
        """Where what decided stands: ``policy.yaml:12 operator allow k8s:*``."""
        found = self._lines.get((roles, by))
        if found is None:
            if len(self._lines) > CACHE_MAX:
                self._lines.clear()
            found = self._lines[roles, by] = self._find(roles, by)
        return found

    def _find(self, roles: tuple[str, ...], by: str) -> str:
        for role, entry in self._entries(roles):
            if by in entry.texts():
                return f"{self._name}:{entry.line} {role} {entry.effect} {by.removeprefix('!')}"
        return ""

    def _resolve(self, roles: tuple[str, ...]) -> Granted:
        globs: set[str] = set()
        grants: dict[str, Grant] = {}
        for _, entry in self._entries(roles):
            if entry.grants:
                grants |= dict(zip(entry.texts(), entry.grants, strict=True))
            else:
                globs.update(entry.texts())
        permissions = tuple(sorted(globs))
        conditional = tuple(grant for _, grant in sorted(grants.items()))
        # Rules of tools are no part of what roles come to, but of what their callers may: another policy, another key.
        parts = [*permissions, *sorted(grants), *([self.digest] if self._tools else [])]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        return Granted(permissions, conditional, key)

    def _entries(self, roles: tuple[str, ...]) -> list[tuple[str, Entry]]:
        """Of roles and those they inherit, each once; the denials first, as they are decided first."""
        lineage: list[str] = []
        waiting = [role for role in roles if role in self._roles]
        while waiting:
            role = waiting.pop(0)
            if role not in lineage:
                lineage.append(role)
                waiting += [name for name, _ in self._roles[role].inherits]
        found = [(role, entry) for role in lineage for entry in self._roles[role].entries]
        return sorted(found, key=lambda pair: pair[1].effect != "deny")
