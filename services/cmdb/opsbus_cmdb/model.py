"""What the inventory records: assets, relationships between them, changes and calendar windows. Storage and rules
live elsewhere."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Status(StrEnum):
    """Operational status: how the asset does right now."""

    DOWN = "down"
    DEGRADED = "degraded"
    MAINTENANCE = "maintenance"
    UNKNOWN = "unknown"
    OPERATIONAL = "operational"


class Lifecycle(StrEnum):
    """Where the asset stands between being planned and being gone."""

    PLANNED = "planned"
    DEPLOYING = "deploying"
    ACTIVE = "active"
    RETIRING = "retiring"
    RETIRED = "retired"


class Criticality(StrEnum):
    """How much the company suffers without the asset."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class RelationType(StrEnum):
    """How one asset needs another: the relationship points from the one that needs to the one that is needed."""

    DEPENDS_ON = "depends_on"
    STORES_IN = "stores_in"
    RUNS_ON = "runs_on"
    PART_OF = "part_of"


INVERSE: dict[RelationType, str] = {
    RelationType.DEPENDS_ON: "required_by",
    RelationType.STORES_IN: "stores_data_of",
    RelationType.RUNS_ON: "runs",
    RelationType.PART_OF: "contains",
}
"""The same relationship, read from the needed asset."""


class ChangeType(StrEnum):
    """ITIL's three kinds of change."""

    STANDARD = "standard"
    NORMAL = "normal"
    EMERGENCY = "emergency"


class ChangeState(StrEnum):
    """States of a change, in their usual order."""

    NEW = "new"
    ASSESS = "assess"
    AUTHORIZE = "authorize"
    SCHEDULED = "scheduled"
    IMPLEMENT = "implement"
    REVIEW = "review"
    CLOSED = "closed"
    CANCELLED = "cancelled"


class Risk(StrEnum):
    """The assessed risk of a change."""

    HIGH = "high"
    MODERATE = "moderate"
    LOW = "low"


class WindowKind(StrEnum):
    """What a calendar window means."""

    FREEZE = "freeze"
    MAINTENANCE = "maintenance"


class Record(BaseModel):
    """Base of the records. Readers ignore what they do not know, so a newer CMDB does not break an older worker."""

    model_config = ConfigDict(extra="ignore")


class Asset(Record):
    """One configuration item."""

    id: str = Field(min_length=1, max_length=128, description="Stable id: `ast-...`.")
    ref: str = Field(min_length=1, max_length=400, description="`kind:namespace/name`, unique.")
    kind: str = Field(max_length=64, description="service, database, cache, host, cluster, ...")
    asset_class: str = Field(default="", max_length=64, description="application, data or infrastructure.")
    namespace: str = Field(default="", max_length=128)
    name: str = Field(max_length=200)
    description: str = Field(default="", max_length=4_000)
    environment: str = Field(default="", max_length=64, description="production, staging, ...")
    lifecycle: Lifecycle
    status: Status = Field(description="Operational status.")
    criticality: Criticality
    owner_team: str = Field(default="", max_length=128)
    version: int = Field(
        ge=1, description="Rises with every change of the record; `expected_version` is compared with it."
    )
    attributes: dict[str, Any] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    external_ids: dict[str, str] = Field(
        default_factory=dict, description="The asset's id in other systems, by system."
    )
    source: str = Field(default="", max_length=128, description="Who recorded it: discovery, terraform, a person.")
    confidence: float = Field(default=1.0, ge=0, le=1, description="How sure the source is, 0 to 1.")
    last_seen: datetime | None = Field(default=None, description="When the source saw it last.")
    created_at: datetime
    updated_at: datetime


class Relationship(Record):
    """`from_id` needs `to_id`."""

    id: str = Field(min_length=1, max_length=128)
    from_id: str
    to_id: str
    type: RelationType
    impact: str = Field(
        default="hard", description="hard: the needing asset fails with it; soft: it only loses something."
    )
    redundancy: str = Field(default="none", description="none, standby, active_active, ...")
    source: str = ""
    last_seen: datetime | None = None


class Change(Record):
    """A change record."""

    number: str = Field(min_length=1, max_length=64, description="`CHG...`")
    title: str = Field(max_length=400)
    description: str = Field(default="", max_length=8_000)
    type: ChangeType
    state: ChangeState
    risk: Risk
    asset_refs: list[str] = Field(default_factory=list, description="Refs of the assets it touches.")
    requested_by: str = ""
    owner_team: str = ""
    planned_start: datetime | None = None
    planned_end: datetime | None = None
    actual_start: datetime | None = None
    actual_end: datetime | None = None
    approvals: list[dict[str, Any]] = Field(default_factory=list)
    plans: dict[str, str] = Field(default_factory=dict, description="implementation, test, backout.")
    outcome: str = Field(default="", description="successful, failed, backed_out; empty while open.")
    tool_call_ids: list[str] = Field(default_factory=list, description="Calls made here under this change.")
    created_at: datetime
    updated_at: datetime


class Window(Record):
    """A freeze or maintenance window of the calendar."""

    id: str = Field(min_length=1, max_length=128)
    kind: WindowKind
    title: str = Field(max_length=400)
    reason: str = ""
    start: datetime
    end: datetime
    selector: dict[str, str] = Field(default_factory=dict, description="Asset fields or labels it covers; empty: all.")
