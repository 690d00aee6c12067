"""What a policy is written in: roles, their entries, rules of tools. Each knows its line."""

from dataclasses import dataclass, field
from enum import StrEnum

from opsbus.permission import said
from opsbus_contracts.identity import Grant


class Approval(StrEnum):
    """How a tool's call is approved, beyond being permitted."""

    NONE = "none"
    """The worker acts without asking."""
    CONFIRM = "confirm"
    """The worker asks whoever calls: what every write does."""
    TWO_PERSON = "two_person"
    """Somebody else has to approve."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An allowance or denial of a role as written. Without conditions ``grants`` is empty."""

    line: int
    effect: str
    permission: str
    grants: tuple[Grant, ...] = ()
    """What the conditions come to: one of them has to hold."""

    def texts(self) -> list[str]:
        """How decisions name it."""
        if self.grants:
            return [said(grant) for grant in self.grants]
        return [f"!{self.permission}" if self.effect == "deny" else self.permission]


@dataclass(slots=True)
class Role:
    """A role as written."""

    line: int
    inherits: list[tuple[str, int]] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ToolRule:
    """What a policy says of tools by MCP name."""

    line: int
    tool: str
    """Glob."""
    requires: tuple[str, ...] = ()
    """Permissions needed beside the tool's own."""
    approval: Approval | None = None
