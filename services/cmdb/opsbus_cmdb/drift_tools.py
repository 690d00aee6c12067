"""What runs against what is recorded: the tool `cmdb_detect_drift`. The rules are drift.py's."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from opsbus import Context, Page
from opsbus_cmdb.drift import Finding, Unknown, look, not_recorded, place_of
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.model import Asset
from opsbus_cmdb.overlay import keeper
from opsbus_cmdb.query import AssetQuery, Direction, TopologyQuery
from opsbus_cmdb.workloads import Workload

_NODES = 100
_NEIGHBOURS = 500
_UNKNOWN_MAX = 40
_BUDGET_BYTES = 16_000
_ORDER = {"high": 0, "medium": 1, "low": 2}


class Drift(Page[Finding]):
    """What is not as it is recorded, the gravest first, and what could not be compared."""

    checked: list[str] = Field(description="Refs of the assets compared.")
    unknown: list[Unknown] = Field(default_factory=list, description="Not compared, and why. No finding is no proof.")
    facts_until: datetime | None = Field(
        default=None, description="The newest fact of Kubernetes; null: none is known."
    )

    def to_text(self) -> str:
        """What a person reads."""
        head = f"{self.page.total} differences in {len(self.checked)} assets" if self.items else "No difference found"
        lines = [head, *(f"- {item.line()}" for item in self.items[:40])]
        lines += [f"- not compared: {item.what} of {item.ref}: {item.why}" for item in self.unknown[:20]]
        return "\n".join([*lines, *self.warnings])


async def detect_drift(
    ctx: Context[Inventory],
    service: Annotated[
        str, Field(description="Id, ref (kind:namespace/name) or unique name.", min_length=1, max_length=400)
    ],
    depth: Annotated[int, Field(ge=0, le=2, description="Also what it needs, so many steps away.")] = 0,
) -> Drift:
    """Whether what runs is what is recorded: release, replicas, deleted or unrecorded workloads, a lifecycle that is
    not true, assets nobody has seen lately. Compares with the last facts that events of Kubernetes told, and says what
    no fact is known of. For the live state ask the k8s tools.

    Example: {"service": "service:shop/checkout", "depth": 1}
    """
    inventory, now = ctx.state, datetime.now(UTC)
    assets = await _assets(inventory, service, depth)
    workloads = await inventory.workloads(sorted({place_of(asset)[1] for asset in assets}))
    warnings = []
    if workloads is None:
        warnings.append(f"{inventory.source} keeps no facts of Kubernetes: only the records themselves were looked at")
    findings: list[Finding] = []
    unknown: list[Unknown] = []
    for asset in assets:
        differs, open_ = look(asset, workloads or [], now)
        findings += differs
        unknown += open_
    findings += await _unrecorded(inventory, assets[0], workloads or [])
    kept = keeper(inventory)
    if kept is not None and findings:
        since = {(mark.ref, mark.kind): mark.since for mark in await kept.marks_of_refs([f.ref for f in findings])}
        findings = [item.model_copy(update={"since": since.get((item.ref, item.kind))}) for item in findings]
    findings.sort(key=lambda item: (_ORDER[item.severity], item.ref, item.kind))
    if len(unknown) > _UNKNOWN_MAX:
        warnings.append(f"{len(unknown) - _UNKNOWN_MAX} more could not be compared: ask for fewer steps")
    page = Page[Finding].fit(
        findings, budget_bytes=_BUDGET_BYTES, total=len(findings), warnings=warnings, source=inventory.source, as_of=now
    )
    return Drift(
        **dict(page),
        checked=[asset.ref for asset in assets],
        unknown=unknown[:_UNKNOWN_MAX],
        facts_until=max((known.seen_at for known in workloads or []), default=None),
    )


async def _assets(inventory: Inventory, service: str, depth: int) -> list[Asset]:
    if depth == 0:
        return [await inventory.get_asset(service)]
    walk = TopologyQuery(direction=Direction.DEPENDENCIES, depth=depth, nodes_max=_NODES)
    return [node.asset for node in (await inventory.topology(service, walk)).nodes]


async def _unrecorded(inventory: Inventory, asset: Asset, workloads: list[Workload]) -> list[Finding]:
    """Workloads beside the service, in its namespace, that are nobody's."""
    namespace = place_of(asset)[1]
    beside = [known for known in workloads if known.namespace == namespace and not known.gone]
    if not beside:
        return []
    recorded = await inventory.find_assets(AssetQuery(filters={"namespace": [namespace]}), _NEIGHBOURS, None)
    if recorded.total > len(recorded.items):
        return []  # too many to say of any that it is not among them
    mapped = {place_of(known)[1:] for known in recorded.items}
    return [not_recorded(known) for known in beside if (known.namespace, known.name) not in mapped]
