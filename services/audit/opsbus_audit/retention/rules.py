"""How long which events are kept: rules in order, the first that matches decides; what none matches is kept."""

import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ColumnElement, and_, false, not_, or_, true

from opsbus_audit.tables import event

GLOBS = ("tool", "service", "stage", "actor")
DAY_NS = 86_400 * 1_000_000_000


class RetentionRule(BaseModel):
    """One rule. Fields that are not given match anything; ``*`` stands for any characters."""

    model_config = ConfigDict(extra="forbid")

    keep_days: float | None = Field(ge=0, le=36_500, description="Days since the event was stored; null: for ever.")
    tool: str | None = Field(default=None, min_length=1, max_length=512)
    service: str | None = Field(default=None, min_length=1, max_length=64)
    stage: str | None = Field(default=None, min_length=1, max_length=64)
    actor: str | None = Field(default=None, min_length=1, max_length=256)
    mutating: bool | None = None

    def said(self) -> str:
        """``90 days: stage=completed tool=k8s_get_*``"""
        given = [f"{name}={value}" for name in GLOBS if (value := getattr(self, name)) is not None]
        if self.mutating is not None:
            given.append("writes" if self.mutating else "reads")
        kept = "for ever" if self.keep_days is None else f"{self.keep_days:g} days"
        return f"{kept}: {' '.join(given) or 'everything else'}"


def matching(criteria: dict[str, str | None], mutating: bool | None = None) -> ColumnElement[bool]:
    """The condition under which all of these globs match."""
    conditions: list[ColumnElement[bool]] = []
    for name, glob in criteria.items():
        if glob is not None:
            conditions.append(_glob(event.c[name], glob))
    if mutating is not None:
        conditions.append(event.c.mutating.is_(mutating))
    return and_(true(), *conditions)


def expired(rules: Sequence[RetentionRule], now_ns: int) -> list[ColumnElement[bool]]:
    """For each rule the condition of the events it lets go of now; no event under two rules."""
    found: list[ColumnElement[bool]] = []
    earlier: list[ColumnElement[bool]] = []
    for rule in rules:
        mine = matching({name: getattr(rule, name) for name in GLOBS}, rule.mutating)
        if rule.keep_days is None:
            found.append(false())
        else:
            over = event.c.stored_ns < now_ns - int(rule.keep_days * DAY_NS)
            found.append(and_(over, mine, not_(or_(false(), *earlier))))
        earlier.append(mine)
    return found


def _glob(column: ColumnElement[str], glob: str) -> ColumnElement[bool]:
    if "*" not in glob:
        return column == glob
    # LIKE would not do: SQLite's takes no notice of case.
    return column.regexp_match("^" + r"(.|\n)*".join(re.escape(part) for part in glob.split("*")) + "$")
