"""The port: what the tools need from an inventory, whoever keeps it. Three backends fill it: the embedded store, a CMDB
over HTTP, and NetBox, which is only read."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from pydantic import BaseModel, Field

from opsbus.owners import Owned
from opsbus_cmdb.model import Asset, Change, Relationship, Window
from opsbus_cmdb.query import AssetQuery, Cancellation, ChangeDraft, ChangeQuery, StatusChange, TopologyQuery
from opsbus_cmdb.workloads import Workload


class Group(BaseModel):
    """How many assets share a value."""

    value: str
    count: int = Field(ge=0)


class AssetSlice(BaseModel):
    """One page of assets, the unhealthy first."""

    as_of: datetime | None = Field(default=None, description="The past time this is of, as it was asked.")

    items: list[Asset]
    total: int = Field(ge=0)
    next_cursor: str | None = None
    cursors: list[str] = Field(default_factory=list, description="The cursor after each item, to cut a page shorter.")
    groups: dict[str, list[Group]] = Field(
        default_factory=dict, description="Of all matches, by the fields to count by; the most first."
    )


class ChangeSlice(BaseModel):
    """One page of changes, the latest planned first."""

    items: list[Change]
    total: int = Field(ge=0)
    next_cursor: str | None = None
    cursors: list[str] = Field(default_factory=list, description="The cursor after each item, to cut a page shorter.")
    windows: list[Window] = Field(default_factory=list, description="Freeze and maintenance windows in the same time.")
    unknown: str = Field(default="", description="Why no changes are known here; empty: these are all there are.")


class TopologyNode(BaseModel):
    """An asset of a topology, `depth` steps from the root (0: the root)."""

    asset: Asset
    depth: int = Field(ge=0)


class Topology(BaseModel):
    """What was reached from a root, nearest first, each asset once."""

    root: str = Field(description="Id of the asset walked from.")
    nodes: list[TopologyNode]
    edges: list[Relationship] = Field(description="Between the nodes listed.")
    as_of: datetime | None = Field(default=None, description="The past time this is of, as it was asked.")
    undated: int = Field(default=0, ge=0, description="Relationships whose beginning is not recorded.")
    truncated: bool = Field(default=False, description="More was within `depth` than the node limit lets through.")


class Inventory(Protocol):
    """An inventory. Every method raises ToolError with a code, a message and a hint; none returns half an answer
    silently."""

    source: str
    """What the answers call it: `cmdb (embedded)`, `cmdb (https://...)`."""

    async def find_assets(
        self, query: AssetQuery, limit: int, cursor: str | None, count_by: Sequence[str] = ()
    ) -> AssetSlice:
        """Assets that match, the unhealthy and critical first; with how many match per value of each field named."""
        ...

    async def count_assets(self, query: AssetQuery, group_by: str) -> list[Group]:
        """How many assets match per value of a field, the most first."""
        ...

    async def get_asset(self, key: str) -> Asset:
        """An asset as it is, by id, ref, or a name that only one asset has; ``not_found`` names near ones."""
        ...

    async def topology(self, key: str, query: TopologyQuery) -> Topology:
        """What is reached from an asset. Never loops, never holds more than the node limit."""
        ...

    async def set_status(self, asset_id: str, change: StatusChange) -> Asset:
        """Record a status if the version is still the expected one (else ``precondition_failed``); the new record."""
        ...

    async def find_changes(self, query: ChangeQuery, limit: int, cursor: str | None) -> ChangeSlice:
        """Changes that match, and the calendar windows of the same time."""
        ...

    async def get_change(self, number: str) -> Change:
        """A change by number."""
        ...

    async def workloads(self, namespaces: list[str]) -> list[Workload] | None:
        """What Kubernetes was last seen to run there; None: such facts are not kept."""
        ...

    async def create_change(self, draft: ChangeDraft) -> Change:
        """Record a change under the next free number; the call is the first of its calls."""
        ...

    async def cancel_change(self, number: str, cancellation: Cancellation) -> Change:
        """Cancel a change that nobody touched since it was looked at (else ``precondition_failed``)."""
        ...

    async def owned(self, most: int) -> list[Owned]:
        """What an alert can be about and has an owner of its own, the critical first."""
        ...

    async def owners_mark(self) -> str | None:
        """Changes when an asset does; None: only reading all of them would tell."""
        ...
