"""Whose something is: the tool `cmdb_who_owns`."""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from opsbus import Context
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import Asset, Criticality, RelationType
from opsbus_cmdb.query import Direction, TopologyQuery

_CONTACTS = ("contact", "on_call", "chat", "escalation", "runbook")
_ABOVE_MAX = 20
_HOLDING = [RelationType.PART_OF, RelationType.RUNS_ON]


class Ownership(BaseModel):
    """Who answers for an asset, and how to reach them."""

    ref: str
    owner_team: str = Field(description="Empty: nobody is recorded.")
    contacts: dict[str, str] = Field(default_factory=dict, description="contact, on_call, chat, escalation, runbook.")
    inherited_from: str | None = Field(
        default=None, description="Ref of the asset it belongs to or runs on, where it has no owner of its own."
    )
    criticality: Criticality
    needed_by_teams: dict[str, int] = Field(
        default_factory=dict, description="Owners of what needs it directly, with how many assets: whom to tell."
    )
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime
    source: str

    def to_text(self) -> str:
        """What a person reads."""
        whose = f"{self.ref} belongs to {self.owner_team}" if self.owner_team else f"{self.ref} has no recorded owner"
        if self.inherited_from:
            whose += f" (as the owner of {self.inherited_from})"
        lines = [whose, *(f"- {name}: {value}" for name, value in self.contacts.items())]
        if self.needed_by_teams:
            lines.append("Needed by: " + ", ".join(f"{team} ({n})" for team, n in self.needed_by_teams.items()))
        return "\n".join([*lines, *self.warnings])


async def who_owns(
    ctx: Context[Inventory],
    target: Annotated[
        str,
        Field(
            description="Id, ref (kind:namespace/name), unique name, or namespace/name of a workload.",
            min_length=1,
            max_length=400,
        ),
    ],
) -> Ownership:
    """Who owns an asset, how to reach them, and which teams need it.

    An asset without an owner takes that of what it belongs to or runs on, and the answer says so. For what would be
    hit: cmdb_get_impact. Example: {"target": "service:shop/checkout"}
    """
    inventory = ctx.state
    asset = await inventory.get_asset(target)
    owner, inherited = asset, None
    warnings: list[str] = []
    if not asset.owner_team:
        above = await _owned_above(inventory, asset)
        if above is None:
            warnings.append("nobody is recorded as its owner, nor as that of what it belongs to or runs on")
        else:
            owner, inherited = above, above.ref
    return Ownership(
        ref=asset.ref,
        owner_team=owner.owner_team,
        contacts=_contacts(owner.attributes),
        inherited_from=inherited,
        criticality=asset.criticality,
        needed_by_teams=await _needed_by(inventory, asset, warnings),
        warnings=warnings,
        as_of=datetime.now(UTC),
        source=inventory.source,
    )


async def _owned_above(inventory: Inventory, asset: Asset) -> Asset | None:
    # Only along these: what it merely depends on, and what that runs on, says nothing about whose it is.
    query = TopologyQuery(direction=Direction.DEPENDENCIES, depth=3, nodes_max=_ABOVE_MAX, types=_HOLDING)
    found = await inventory.topology(asset.id, query)
    return next((node.asset for node in found.nodes[1:] if node.asset.owner_team), None)


async def _needed_by(inventory: Inventory, asset: Asset, warnings: list[str]) -> dict[str, int]:
    query = TopologyQuery(direction=Direction.DEPENDENTS, depth=1, nodes_max=200)
    found = await inventory.topology(asset.id, query)
    if found.truncated:
        warnings.append("more needs it than was counted")
    counted: dict[str, int] = {}
    for node in found.nodes[1:]:
        if node.asset.owner_team:
            counted[node.asset.owner_team] = counted.get(node.asset.owner_team, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _contacts(attributes: dict[str, Any]) -> dict[str, str]:
    return {name: str(attributes[name]) for name in _CONTACTS if isinstance(attributes.get(name), str)}
