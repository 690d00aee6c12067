"""What runs against what is recorded: rules over one asset and the workload it maps to. Reading either is others'."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, Field

from opsbus_cmdb.model import Asset, Lifecycle, Status
from opsbus_cmdb.workloads import Workload

STALE = timedelta(days=7)
"""An asset whose source has not seen it for this long may be gone; a fact this old proves little."""

Kind = Literal["gone", "lifecycle", "release", "replicas", "status", "stale", "not_recorded"]
Severity = Literal["high", "medium", "low"]


class Finding(BaseModel):
    """Something that is not as it is recorded."""

    kind: Kind
    severity: Severity
    ref: str = Field(description="The asset; of not_recorded the workload, cluster/namespace/name.")
    recorded: str
    seen: str
    seen_at: datetime | None = Field(default=None, description="When the other side was seen.")
    since: datetime | None = Field(default=None, description="Since when the two differ, as far as known.")
    hint: str

    def line(self) -> str:
        """One line a person reads."""
        since = f" since {self.since:%Y-%m-%d %H:%M}" if self.since else ""
        return f"{self.severity} {self.kind} {self.ref}{since}: recorded {self.recorded}, seen {self.seen}; {self.hint}"


class Unknown(BaseModel):
    """Something that could not be compared."""

    ref: str
    what: str
    why: str


def place_of(asset: Asset) -> tuple[str, str, str]:
    """Cluster, namespace and name in Kubernetes: as its external id says (``cluster/namespace/name``), else its own."""
    parts = asset.external_ids.get("kubernetes", "").split("/")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", asset.namespace, asset.name)


def matching(asset: Asset, workloads: Iterable[Workload]) -> Workload | None:
    """The asset's workload: in its cluster, or the only one of that namespace and name anywhere."""
    cluster, namespace, name = place_of(asset)
    found = [known for known in workloads if (known.namespace, known.name) == (namespace, name)]
    exact = [known for known in found if known.cluster == cluster]
    if exact:
        return exact[0]
    return found[0] if len(found) == 1 else None


def look(asset: Asset, workloads: Iterable[Workload], now: datetime) -> tuple[list[Finding], list[Unknown]]:
    """``compare`` with the asset's workload among those given; what is no workload can only be stale."""
    if asset.asset_class == "infrastructure":
        stale = [_stale(asset)] if _is_stale(asset, now) else []
        return stale, [Unknown(ref=asset.ref, what="what runs", why="it is no workload")]
    return compare(asset, matching(asset, workloads), now)


def compare(asset: Asset, workload: Workload | None, now: datetime) -> tuple[list[Finding], list[Unknown]]:
    """What differs, and what could not be compared."""
    findings = [_stale(asset)] if _is_stale(asset, now) else []
    if workload is None:
        return findings, [
            Unknown(ref=asset.ref, what="what runs", why="no event of Kubernetes told of it since the CMDB listens")
        ]
    alive = asset.lifecycle in (Lifecycle.DEPLOYING, Lifecycle.ACTIVE, Lifecycle.RETIRING)
    if workload.gone:
        return [*findings, *([_gone(asset, workload)] if alive else [])], []
    if not alive:
        findings.append(
            _found(
                "lifecycle",
                "high",
                asset,
                workload,
                asset.lifecycle.value,
                "it runs",
                "correct its lifecycle, or stop it",
            )
        )
    unknown: list[Unknown] = []
    findings += _release(asset, workload, unknown) + _replicas(asset, workload, unknown)
    if now - workload.seen_at > STALE:
        why = f"the last fact is of {workload.seen_at:%Y-%m-%d}: it may have changed since"
        unknown.append(Unknown(ref=asset.ref, what="what runs now", why=why))
    return findings, unknown


def not_recorded(workload: Workload) -> Finding:
    """A workload that no asset maps to."""
    return Finding(
        kind="not_recorded", severity="medium", ref=f"{workload.cluster}/{workload.namespace}/{workload.name}",
        recorded="nothing", seen=", ".join(workload.images or []) or workload.kind or "a workload",
        seen_at=workload.seen_at, hint="import it as an asset, with external_id.kubernetes naming it",
    )  # fmt: skip


def _found(
    kind: Kind, severity: Severity, asset: Asset, workload: Workload, recorded: str, seen: str, hint: str
) -> Finding:
    return Finding(
        kind=kind, severity=severity, ref=asset.ref, recorded=recorded, seen=seen, seen_at=workload.seen_at, hint=hint
    )


def _is_stale(asset: Asset, now: datetime) -> bool:
    counted = asset.lifecycle in (Lifecycle.ACTIVE, Lifecycle.RETIRING)
    return counted and asset.last_seen is not None and now - asset.last_seen > STALE


def _stale(asset: Asset) -> Finding:
    return Finding(
        kind="stale", severity="medium", ref=asset.ref,
        recorded=f"{asset.lifecycle.value}, by {asset.source or 'nobody'}",
        seen=f"last on {asset.last_seen:%Y-%m-%d}" if asset.last_seen else "never", seen_at=asset.last_seen,
        hint="check whether it is still there; retire it if not",
    )  # fmt: skip


def _gone(asset: Asset, workload: Workload) -> Finding:
    return _found(
        "gone", "high", asset, workload, asset.lifecycle.value, "deleted", "retire it, or find out who deleted it"
    )


def _release(asset: Asset, workload: Workload, unknown: list[Unknown]) -> list[Finding]:
    recorded = asset.attributes.get("release")
    if not isinstance(recorded, str) or not recorded:
        unknown.append(Unknown(ref=asset.ref, what="release", why="none is recorded (attribute release)"))
        return []
    if not workload.images:
        unknown.append(Unknown(ref=asset.ref, what="release", why="no event told its images"))
        return []
    tags = {image.partition("@")[0].rpartition("/")[2].partition(":")[2] for image in workload.images}
    if any(_same(tag, recorded) for tag in tags):
        return []
    if tags == {""}:
        unknown.append(Unknown(ref=asset.ref, what="release", why="its images carry no tag"))
        return []
    shown = ", ".join(workload.images)
    return [_found("release", "medium", asset, workload, recorded, shown, "bring the record up to date, or roll back")]


def _same(tag: str, release: str) -> bool:
    """``v2.4.1`` is ``2.4.1``, and ``16.3-alpine`` is a ``16.3``."""
    plain, wanted = tag.removeprefix("v"), release.removeprefix("v")
    return plain == wanted or plain.startswith(f"{wanted}-")


def _replicas(asset: Asset, workload: Workload, unknown: list[Unknown]) -> list[Finding]:
    if workload.replicas is None:
        unknown.append(Unknown(ref=asset.ref, what="replicas", why="no event told how many"))
        return []
    found = []
    recorded = asset.attributes.get("replicas")
    if isinstance(recorded, int) and recorded != workload.replicas:
        shown = (str(recorded), str(workload.replicas))
        found.append(_found("replicas", "low", asset, workload, *shown, "bring the record up to date, or scale back"))
    if workload.replicas == 0 and asset.status is Status.OPERATIONAL:
        found.append(_found("status", "high", asset, workload, "operational", "0 replicas", "set its status to down"))
    return found
