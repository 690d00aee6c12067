"""Assets as the tools show them: chosen fields, compact rows, the cut to a budget. What is stored stays in model.py."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_cmdb.mark_filter import FILTER as DRIFT
from opsbus_cmdb.marks import Mark, compact
from opsbus_cmdb.model import Asset, Criticality, Lifecycle, Status

COMPACT = ("kind", "environment", "status", "lifecycle", "criticality", "owner_team", "version")
"""What a row of many shows beside id and ref."""

LISTED = (*COMPACT, "namespace", "name", "description", "labels", "last_seen")
"""What a row of few shows."""

FULL = tuple(name for name in Asset.model_fields if name not in {"id", "ref"})


def _absent(value: Any) -> bool:
    return value is None


def _optional(description: str = "") -> Any:
    return Field(default=None, description=description, exclude_if=_absent)


class AssetView(BaseModel):
    """An asset with the fields asked for; the others are left out."""

    id: str
    ref: str = Field(description="`kind:namespace/name`")
    kind: str | None = _optional()
    asset_class: str | None = _optional()
    namespace: str | None = _optional()
    name: str | None = _optional()
    description: str | None = _optional()
    environment: str | None = _optional()
    status: Status | None = _optional("Operational status: how it does now.")
    lifecycle: Lifecycle | None = _optional("Between planned and retired.")
    criticality: Criticality | None = _optional()
    owner_team: str | None = _optional()
    version: int | None = _optional("Pass it as expected_version when you change the asset.")
    attributes: dict[str, Any] | None = _optional()
    labels: dict[str, str] | None = _optional()
    external_ids: dict[str, str] | None = _optional("Its id in other systems.")
    source: str | None = _optional("Who recorded it.")
    confidence: float | None = _optional("How sure the source is, 0 to 1.")
    last_seen: datetime | None = _optional()
    created_at: datetime | None = _optional()
    updated_at: datetime | None = _optional()
    drift: str | None = _optional("What is not as recorded, the worst first: high: gone, release.")

    def line(self) -> str:
        """One line a person reads."""
        words = [self.status, self.lifecycle if self.lifecycle != Lifecycle.ACTIVE else None, self.criticality]
        shown = ", ".join(word.value for word in words if word)
        owner = f", owner {self.owner_team}" if self.owner_team else ""
        drift = f", drift {self.drift}" if self.drift else ""
        return f"{self.ref} [{self.id}] {shown}{owner}{drift}"


def view(asset: Asset, fields: tuple[str, ...] = FULL, marks: Iterable[Mark] = ()) -> AssetView:
    """The asset with ``fields``, and its drift."""
    chosen = {name: getattr(asset, name) for name in ("id", "ref", *fields) if name != DRIFT}
    return AssetView.model_validate(chosen | {DRIFT: compact(marks)})


def chosen_fields(fields: list[str] | None) -> tuple[str, ...] | None:
    """Check a projection; None when none was asked for.

    Raises:
        ToolError: ``invalid_arguments`` for an unknown field, naming the valid ones.
    """
    if not fields:
        return None
    for name in fields:
        if name not in {*FULL, "id", "ref", DRIFT}:
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                f"unknown field {name!r}",
                hint=f"valid fields: id, ref, {', '.join(FULL)}, {DRIFT}",
                did_you_mean=near(name, list(FULL)),
            )
    return tuple(name for name in dict.fromkeys(fields) if name not in {"id", "ref"})
