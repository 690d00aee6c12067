"""Prompts of the CMDB: the impact brief, filled with what the inventory says at that moment, and its completions."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from opsbus import Context, ErrorCode, PromptMessage, ToolError
from opsbus_cmdb.inventory import ChangeSlice, Inventory, Topology
from opsbus_cmdb.query import TEXT_MAX, AssetQuery, ChangeQuery, Direction, TopologyQuery

_COMPLETIONS = 50
_LISTED = 40

Cmdb = Context[Inventory]


async def impact_brief(
    ctx: Cmdb,
    service: Annotated[str, Field(description="The service (or any asset): id, ref or unique name.")],
    change: Annotated[str, Field(description="A change record to judge, CHG...; optional.")] = "",
) -> list[PromptMessage]:
    """Brief a person on what an outage or a change of a service would hit, from what the CMDB records right now."""
    inventory = ctx.state
    now = datetime.now(UTC)
    reach = TopologyQuery(direction=Direction.DEPENDENTS, depth=3, nodes_max=_LISTED)
    needs = TopologyQuery(direction=Direction.DEPENDENCIES, depth=2, nodes_max=_LISTED)
    hit = await inventory.topology(service, reach)
    needed = await inventory.topology(service, needs)
    root = hit.nodes[0].asset
    week = timedelta(days=7)
    changes = await inventory.find_changes(ChangeQuery(assets=[root.ref], since=now - week, until=now + week), 20, None)
    facts = [
        f"Service: {root.ref}, {root.status.value}, lifecycle {root.lifecycle.value}, {root.criticality.value}, "
        f"owner {root.owner_team or 'unknown'} (as of {now:%Y-%m-%d %H:%M} UTC, {inventory.source})",
        "What needs it:",
        *_lines(hit, needing=True),
        "What it needs:",
        *_lines(needed, needing=False),
        "Changes of the last and the next seven days:",
        *_change_lines(changes),
        "Calendar:",
        *_window_lines(changes),
    ]
    if change:
        record = await inventory.get_change(change)
        facts += [
            f"The change to judge: {record.number} {record.title} ({record.state.value}, {record.risk.value} risk)"
        ]
        facts += [f"- touches {ref}" for ref in record.asset_refs]
        facts += [f"- {name}: {plan}" for name, plan in sorted(record.plans.items())]
    task = (
        "Write an impact brief for the people on duty, from the facts below and nothing else. Say who and what is hit, "
        "hard dependencies first, with owners to tell; which recent or planned change could be the cause or stand in "
        "the way; what is not recorded and should be checked with the tools (cmdb_get_service_topology, "
        "cmdb_get_change_records, the monitoring tools). At most fifteen lines."
    )
    return [PromptMessage(f"{task}\n\n" + "\n".join(facts))]


def _change_lines(found: ChangeSlice) -> list[str]:
    lines = [f"- {item.number} {item.state.value}, {item.risk.value} risk: {item.title}" for item in found.items]
    return lines or ["- none recorded"]


def _window_lines(found: ChangeSlice) -> list[str]:
    form = "%Y-%m-%d %H:%M"
    lines = [f"- {w.kind.value} {w.start:{form}} to {w.end:{form}} UTC: {w.title}" for w in found.windows]
    return lines or ["- no window"]


def _lines(topology: Topology, *, needing: bool) -> list[str]:
    hard = {edge.from_id if needing else edge.to_id for edge in topology.edges if edge.impact == "hard"}
    lines = []
    for node in topology.nodes:
        if node.depth:
            asset = node.asset
            bond = "hard" if asset.id in hard else "soft"
            lines.append(
                f"- {node.depth} steps, {bond}: {asset.ref}, {asset.status.value}, {asset.criticality.value}, "
                f"owner {asset.owner_team or 'unknown'}"
            )
    return [*lines, *(["- more than is listed"] if topology.truncated else [])] or ["- nothing recorded"]


async def complete_service(ctx: Cmdb, value: str, resolved: dict[str, str]) -> list[str]:
    """Refs of services that contain what was typed, those whose name begins with it first."""
    query = AssetQuery(text=value[:TEXT_MAX].strip(), filters={"kind": ["service"]})
    found = await ctx.state.find_assets(query, _COMPLETIONS, None)
    typed = value.casefold()
    begins = [asset.ref for asset in found.items if asset.name.casefold().startswith(typed)]
    return list(dict.fromkeys([*sorted(begins), *sorted(asset.ref for asset in found.items)]))


async def complete_change(ctx: Cmdb, value: str, resolved: dict[str, str]) -> list[str]:
    """Numbers of changes that begin with what was typed, those of the chosen service first."""
    inventory = ctx.state
    numbers = await _numbers(inventory, ChangeQuery(assets=await _touched(inventory, resolved.get("service", ""))))
    numbers += await _numbers(inventory, ChangeQuery())
    return [n for n in dict.fromkeys(numbers) if n.casefold().startswith(value.casefold())][:_COMPLETIONS]


async def _touched(inventory: Inventory, service: str) -> list[str]:
    if not service:
        return []
    try:
        near = await inventory.topology(service, TopologyQuery(depth=1))
    except ToolError as error:
        # A half-typed service is the normal case while somebody types.
        if error.code in {ErrorCode.NOT_FOUND, ErrorCode.CONFLICT}:
            return []
        raise
    return [node.asset.ref for node in near.nodes]


async def _numbers(inventory: Inventory, query: ChangeQuery) -> list[str]:
    return [item.number for item in (await inventory.find_changes(query, 200, None)).items]
