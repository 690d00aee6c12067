"""What may be asked of an inventory: filters, groupings, cursors. Checked here once, for every backend; no SQL and
no HTTP."""

import base64
import binascii
import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_cmdb.mark_filter import FILTER as DRIFT
from opsbus_cmdb.mark_filter import VALUES as DRIFT_VALUES
from opsbus_cmdb.model import (
    ChangeState,
    ChangeType,
    Criticality,
    Lifecycle,
    RelationType,
    Risk,
    Status,
)

TEXT_MAX = 200
VALUES_MAX = 50
FILTERS_MAX = 20
LIMIT_MAX = 500
DEPTH_MAX = 5
NODES_MAX = 500

CLOSED: dict[str, tuple[str, ...]] = {
    "status": tuple(Status),
    "lifecycle": tuple(Lifecycle),
    "criticality": tuple(Criticality),
    DRIFT: DRIFT_VALUES,
}
"""Filters whose values are a closed list."""

FILTERS = (
    "kind",
    "asset_class",
    "namespace",
    "name",
    "environment",
    "lifecycle",
    "status",
    "criticality",
    "owner_team",
    "source",
    "ref",
    "id",
    DRIFT,
)
LABEL = "label."
"""`label.<key>` filters by a label."""

GROUPS = (
    "kind",
    "asset_class",
    "namespace",
    "environment",
    "lifecycle",
    "status",
    "criticality",
    "owner_team",
    "source",
)


class AssetQuery(BaseModel):
    """Which assets: every word of `text` and every filter must match; a filter's values are alternatives."""

    text: str = Field(default="", max_length=TEXT_MAX)
    filters: dict[str, list[str]] = Field(default_factory=dict)
    as_of: datetime | None = Field(default=None, description="As it was recorded at that time; null: as it is.")

    def digest(self) -> str:
        """The same for the same question: a cursor belongs to one."""
        # The time moves with `now-1h`, so only whether there is one counts.
        asked = self.model_dump_json(exclude={"as_of"}) + ("then" if self.as_of else "")
        return hashlib.sha256(asked.encode()).hexdigest()[:12]


class ChangeQuery(BaseModel):
    """Which changes. `assets` are refs, alternatives; the window overlaps the planned or actual time."""

    assets: list[str] | None = None
    since: datetime | None = None
    until: datetime | None = None
    states: list[ChangeState] = Field(default_factory=list)
    types: list[ChangeType] = Field(default_factory=list)

    def digest(self) -> str:
        """The same for the same question: a cursor belongs to one."""
        # The window moves with `now-1h`, so it is no part: a cursor stays good while the clock runs.
        return hashlib.sha256(self.model_dump_json(exclude={"since", "until"}).encode()).hexdigest()[:12]


class Direction(StrEnum):
    """Which way to walk from a service."""

    DEPENDENCIES = "dependencies"
    DEPENDENTS = "dependents"
    BOTH = "both"


class TopologyQuery(BaseModel):
    """How far and along what to walk."""

    direction: Direction = Direction.DEPENDENCIES
    depth: int = Field(default=2, ge=1, le=DEPTH_MAX)
    nodes_max: int = Field(default=60, ge=1, le=NODES_MAX)
    types: list[RelationType] = Field(default_factory=list, description="Empty: all.")
    as_of: datetime | None = Field(default=None, description="As it was recorded at that time; null: as it is.")


class StatusChange(BaseModel):
    """A status to record, with everything the record's history needs."""

    field: str
    value: str
    expected_version: int = Field(ge=1)
    reason: str
    actor: str
    call_id: str = ""
    change_id: str = ""


class ChangeDraft(BaseModel):
    """A change to record; its number and times of writing are the inventory's."""

    title: str = Field(min_length=1, max_length=400)
    description: str = Field(default="", max_length=8_000)
    type: ChangeType
    state: ChangeState
    risk: Risk
    asset_refs: list[str] = Field(min_length=1, max_length=20)
    requested_by: str = Field(max_length=200)
    owner_team: str = Field(default="", max_length=128)
    planned_start: datetime
    planned_end: datetime
    plans: dict[str, str] = Field(default_factory=dict)
    call_id: str = Field(default="", max_length=64)


class Cancellation(BaseModel):
    """A change that is not to happen. `seen` is its `updated_at` as it was looked at: a later one refuses it."""

    reason: str = Field(min_length=1, max_length=2_000)
    actor: str = Field(min_length=1, max_length=256)
    seen: datetime
    call_id: str = Field(default="", max_length=64)


def asset_query(text: str | None, filters: dict[str, Any] | None, as_of: datetime | None = None) -> AssetQuery:
    """Check a caller's question.

    Raises:
        ToolError: ``invalid_arguments`` for an unknown filter or value, naming the valid ones.
    """
    given = filters or {}
    if len(given) > FILTERS_MAX:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, f"{len(given)} filters; at most {FILTERS_MAX} may be given")
    cleaned = {name: _values(name, value) for name, value in sorted(given.items())}
    if as_of is not None and DRIFT in cleaned:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, "drift is marked as it is now, not as it was", hint="leave as_of or drift out"
        )
    words = (text or "").strip()
    if len(words) > TEXT_MAX:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, f"text has {len(words)} characters; at most {TEXT_MAX} are allowed"
        )
    return AssetQuery(text=words, filters=cleaned, as_of=as_of)


def _values(name: str, value: Any) -> list[str]:
    if name not in FILTERS and not (name.startswith(LABEL) and len(name) > len(LABEL)):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"unknown filter {name!r}",
            hint=f"valid filters: {', '.join(FILTERS)}, {LABEL}<key>",
            did_you_mean=near(name, list(FILTERS)),
        )
    values = value if isinstance(value, list) else [value]
    if not values or len(values) > VALUES_MAX or not all(isinstance(item, str) and item for item in values):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"filter {name!r} takes a non-empty string or a list of 1 to {VALUES_MAX} of them",
        )
    closed = CLOSED.get(name)
    for item in values if closed else []:
        _member(name, item, [str(member) for member in closed or ()])
    return sorted(set(values))


def _member(name: str, value: str, valid: list[str]) -> None:
    if value not in valid:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"{name} has no value {value!r}",
            hint=f"valid values: {', '.join(valid)}",
            did_you_mean=near(value, valid),
        )


def check_group(group_by: str) -> str:
    """Refuse a grouping that does not exist.

    Raises:
        ToolError: ``invalid_arguments``, naming the valid ones.
    """
    if group_by not in GROUPS:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"cannot group by {group_by!r}",
            hint=f"valid: {', '.join(GROUPS)}",
            did_you_mean=near(group_by, list(GROUPS)),
        )
    return group_by


def encode_cursor(digest: str, key: list[str | int]) -> str:
    """An opaque cursor: the last row's sort key, bound to the question."""
    raw = json.dumps([digest, *key], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(cursor: str, digest: str, types: tuple[type, ...]) -> list[Any]:
    """The sort key in ``cursor``: values of ``types``.

    Raises:
        ToolError: ``invalid_arguments`` when it is not ours, or belongs to another question.
    """
    try:
        raw = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raw = None
    well_formed = isinstance(raw, list) and len(raw) == len(types) + 1
    if not well_formed or not all(type(value) is kind for value, kind in zip(raw[1:], types, strict=True)):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "the cursor is not one this tool gave",
            hint="pass page.next_cursor unchanged, or leave cursor out to start anew",
        )
    if raw[0] != digest:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "the cursor belongs to another question",
            hint="repeat the arguments the cursor was given for, or leave cursor out to start anew",
        )
    return list(raw[1:])
