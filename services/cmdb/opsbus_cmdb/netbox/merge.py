"""What NetBox says beside what is recorded: the lines to import. What a person or another source recorded stays where
NetBox says nothing new about it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus_cmdb import tables
from opsbus_cmdb.model import Asset, Lifecycle, RelationType, Status
from opsbus_cmdb.netbox.mapping import (
    BY_TYPE,
    CONTACT_ROLES,
    CUSTOM,
    DEVICE,
    SOURCE,
    SYSTEM,
    Edge,
    asset_of,
    cabled,
    criticality_of,
    edges_of,
    key_of,
    kind_of,
    parse_key,
    ref_of,
    service_parent,
    uplinks,
)
from opsbus_cmdb.netbox.pull import Pulled
from opsbus_cmdb.netbox.schema import Cluster, Device, Object, Service, VirtualMachine
from opsbus_cmdb.transfer.read import Given, Read
from opsbus_cmdb.transfer.records import AssetLine, RelationshipLine

Row = dict[str, Any]


@dataclass
class Recorded:
    """What the store has, by ref and by NetBox's key."""

    by_ref: dict[str, Row] = field(default_factory=dict)
    by_key: dict[str, Row] = field(default_factory=dict)


@dataclass
class Merged:
    """Lines to import, and what a person should know of them."""

    given: Given = field(default_factory=Given)
    skipped: Counter[str] = field(default_factory=Counter)
    """Why, and how many."""
    notes: list[str] = field(default_factory=list)
    gone: int = 0
    """Recorded from this NetBox, and no longer in it."""


async def recorded(engine: AsyncEngine, where: str) -> Recorded:
    """Assets of the store; those of another NetBox are not found by key, for two may number alike."""
    table = tables.asset
    wanted = (
        table.c.ref, table.c.labels, table.c.attributes, table.c.external_ids, table.c.source, table.c.lifecycle
    )  # fmt: skip
    found = Recorded()
    async with engine.connect() as connection:
        async for row in (await connection.stream(select(*wanted))).mappings():
            found.by_ref[row["ref"]] = dict(row)
            key = row["external_ids"].get(SYSTEM)
            url = _facts(row["attributes"]).get("url", "")
            if key and (not url or url.startswith(f"{where}/")):
                found.by_key[key] = found.by_ref[row["ref"]]
    return found


def merge(pulled: Pulled, known: Recorded, where: str, *, retire: bool = False) -> Merged:
    """The lines that bring the store up to what NetBox says.

    Args:
        retire: Whether what is recorded of this NetBox and no longer in it becomes retired.
    """
    made = Merged()
    refs: dict[str, str] = {}
    keys = {key_of(obj) for obj in pulled.objects}
    taken: set[str] = set()
    renamed: list[tuple[str, str]] = []
    for obj in pulled.objects:
        asset = asset_of(obj, pulled.known, where)
        old = _recorded_as(asset, known, keys)
        ref = old["ref"] if old else asset.ref
        if ref in taken or (old is None and ref in known.by_ref):
            ref = f"{asset.ref}~{obj.id}"
            old = known.by_ref.get(ref)
        if old and ref_of(obj) != ref.removesuffix(f"~{obj.id}"):
            renamed.append((ref, asset.ref))
        try:
            made.given.assets.append(Read(_line(obj, asset, ref, old), _list_of(obj), obj.id))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            made.skipped[f"{kind_of(obj).name}s that fit no asset ({first['loc'][0]}: {first['msg']})"] += 1
            continue
        taken.add(ref)
        refs[asset.id] = ref
    _relate(pulled, refs, known, made)
    _depart(pulled, keys, known, made, retire=retire)
    if renamed:
        first_old, first_new = renamed[0]
        made.notes.append(
            f"{len(renamed)} renamed in NetBox keep the ref they are recorded under"
            f" ({first_old} would now be {first_new})"
        )
    return made


def _recorded_as(asset: Asset, known: Recorded, keys: set[str]) -> Row | None:
    if asset.id in known.by_key:
        return known.by_key[asset.id]
    row = known.by_ref.get(asset.ref)
    if row is None:
        return None
    other = row["external_ids"].get(SYSTEM)
    # Another object of NetBox has that ref, and still is there: this one needs a ref of its own.
    return row if other in (None, asset.id) or (other not in keys and other in known.by_key) else None


def _line(obj: Object, asset: Asset, ref: str, old: Row | None) -> AssetLine:
    said: dict[str, Any] = {"ref": ref, "asset_class": asset.asset_class}
    facts = dict(asset.attributes[SYSTEM])
    contacts = {name: asset.attributes[name] for name in CONTACT_ROLES if name in asset.attributes}
    given = {name: value for name in ("description", "environment", "owner_team") if (value := getattr(asset, name))}
    if criticality_of(obj):
        given["criticality"] = asset.criticality
    facts |= {"labels": sorted(asset.labels), "contacts": sorted(contacts), "gave": sorted(given)}
    facts |= {name: given[name] for name in CUSTOM if name in given}
    before = _facts(old["attributes"]) if old else {}
    attributes = _without(old["attributes"], before.get("contacts", [])) if old else {}
    labels = _without(old["labels"], before.get("labels", [])) if old else {}
    said |= {
        "attributes": attributes | contacts | {SYSTEM: facts},
        "labels": labels | asset.labels,
        "external_ids": (old["external_ids"] if old else {}) | asset.external_ids,
    }
    if old is None or old["source"] in ("", SOURCE):
        said["source"] = SOURCE
    said |= given
    if old is None or before.get("status") != facts.get("status"):
        # Only what NetBox says anew: a status that was recorded here since is not taken back.
        said |= {"lifecycle": asset.lifecycle, "status": asset.status}
    return AssetLine.model_validate(said)


def _facts(attributes: dict[str, Any]) -> dict[str, Any]:
    found = attributes.get(SYSTEM)
    return found if isinstance(found, dict) else {}


def _without(values: dict[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _list_of(obj: Object) -> str:
    return f"netbox {kind_of(obj).path}"


def _relate(pulled: Pulled, refs: dict[str, str], known: Recorded, made: Merged) -> None:
    hosts = Counter(obj.cluster.id for obj in pulled.objects if isinstance(obj, Device) and obj.cluster)
    sizes = {obj.id: obj.device_count for obj in pulled.objects if isinstance(obj, Cluster)}
    for obj in pulled.objects:
        if key_of(obj) not in refs:
            continue
        several = 0
        if isinstance(obj, Device) and obj.cluster:
            several = max(hosts[obj.cluster.id], sizes.get(obj.cluster.id, 0) if pulled.since else 0)
        needs = edges_of(obj, several)
        if isinstance(obj, Service) and not service_parent(obj):
            made.skipped["services on what is no device and no virtual machine: recorded without it"] += 1
        for need in needs:
            _edge(refs[key_of(obj)], need, _list_of(obj), obj.id, refs, known, made)
    _cables(pulled, refs, known, made)


def _edge(
    ref: str, need: Edge, file: str, line: int, refs: dict[str, str], known: Recorded, made: Merged
) -> None:  # fmt: skip
    to = refs.get(need.to) or known.by_key.get(need.to, {}).get("ref")
    if to is None or to == ref:
        kind = BY_TYPE[need.to.rpartition(":")[0]].name
        made.skipped[f"relationships to a {kind} that NetBox does not show"] += 1
        return
    said = {"from": ref, "to": to, "type": need.type, "impact": need.impact, "redundancy": need.redundancy}
    made.given.relationships.append(Read(RelationshipLine.model_validate(said | {"source": SOURCE}), file, line))


def _cables(pulled: Pulled, refs: dict[str, str], known: Recorded, made: Merged) -> None:
    joined = cabled(pulled.cables)
    if not joined:
        return
    hosts = {obj.id for obj in pulled.objects if isinstance(obj, Device) and obj.cluster}
    for obj in pulled.objects:
        on = f"{DEVICE.object_type}:{obj.device.id}" if isinstance(obj, VirtualMachine) and obj.device else ""
        on = service_parent(obj) if isinstance(obj, Service) else on
        parsed = parse_key(on) if on else None
        if parsed and parsed[0] is DEVICE:
            hosts.add(parsed[1])
    placed = {(line.record.from_, line.record.to) for line in made.given.relationships}
    needs = uplinks(joined, hosts)
    for device, above, redundancy in needs:
        ends = (refs.get(f"{DEVICE.object_type}:{device}"), refs.get(f"{DEVICE.object_type}:{above}"))
        if ends in placed or not ends[0]:
            continue
        edge = Edge(RelationType.DEPENDS_ON, f"{DEVICE.object_type}:{above}", redundancy=redundancy)
        _edge(ends[0], edge, "netbox dcim/interfaces", device, refs, known, made)
    told = {frozenset((device, above)) for device, above, _ in needs}
    silent = {frozenset((one, other)) for one, others in joined.items() for other in others} - told
    if silent:
        made.skipped["pairs of cabled devices of which neither, or both, run something: who needs whom is not said"] = (
            len(silent)
        )


def _depart(pulled: Pulled, keys: set[str], known: Recorded, made: Merged, *, retire: bool) -> None:
    """What was recorded of this NetBox, and is gone from it."""
    if not pulled.whole:
        return
    for key, row in known.by_key.items():
        if key in keys or row["source"] != SOURCE or row["lifecycle"] == Lifecycle.RETIRED:
            continue
        made.gone += 1
        if retire:
            facts = _without(_facts(row["attributes"]), ["status"])
            said = {
                "ref": row["ref"], "lifecycle": Lifecycle.RETIRED, "status": Status.UNKNOWN,
                "attributes": row["attributes"] | {SYSTEM: facts},
            }  # fmt: skip
            made.given.assets.append(Read(AssetLine.model_validate(said), "netbox, gone", 0))
