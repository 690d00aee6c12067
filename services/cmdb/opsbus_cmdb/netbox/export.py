"""What is ours into NetBox: first the plan, then what it says and no more. Planned are custom fields that NetBox has,
what it leaves empty, and a lifecycle that was changed here; never an operational status, which NetBox has no place for.
Devices, clusters and places are not made: they need a type, a role, a rack, which nobody here knows."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from opsbus import ErrorCode, ToolError
from opsbus_cmdb import tables
from opsbus_cmdb.history import search_text
from opsbus_cmdb.model import Criticality, Lifecycle, RelationType
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.mapping import (
    CLUSTER,
    CUSTOM,
    DEVICE,
    SITE,
    SYSTEM,
    VM,
    Kind,
    custom,
    key_of,
    kind_of,
    parse_key,
    parse_ref,
    state_of,
)
from opsbus_cmdb.netbox.schema import CustomField, Device, Object, Tenant, VirtualMachine
from opsbus_cmdb.transfer.apply import Told

REF_FIELD = "opsbus_ref"
"""A custom field that tells our ref, where NetBox has it."""
_PAGE = 200
_STATUS = {
    Lifecycle.PLANNED: "planned",
    Lifecycle.DEPLOYING: "staged",
    Lifecycle.ACTIVE: "active",
    Lifecycle.RETIRING: "decommissioning",
}
"""Retired has no status of a device or machine: whoever retires one deletes it there, or says what it becomes."""


@dataclass(frozen=True)
class Step:
    """An object to change, or with no id one to make."""

    ref: str
    kind: Kind
    id: int | None
    body: dict[str, Any]
    told: tuple[str, ...]
    """A line for each field: what it is and what it becomes."""
    seen: str = ""
    """NetBox's own mark of the version that was looked at."""


@dataclass
class Plan:
    """What an export would do."""

    steps: list[Step] = field(default_factory=list)
    same: int = 0
    linked: dict[str, str] = field(default_factory=dict)
    """Refs of ours that NetBox has under that key already; only our record is completed."""
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass
class Done:
    """What an export did."""

    changed: int = 0
    made: int = 0
    failed: list[str] = field(default_factory=list)


@dataclass
class _Theirs:
    """What NetBox has that a plan needs."""

    objects: dict[str, Object]
    fields: list[CustomField]
    tenants: dict[str, int]

    def has(self, name: str, kind: Kind) -> bool:
        """Whether objects of the kind have a custom field."""
        return any(item.name == name and kind.object_type in item.object_types for item in self.fields)


async def plan(engine: AsyncEngine, netbox: NetBox, told: Told, *, create: bool) -> Plan:
    """Compare the store with NetBox.

    Raises:
        ToolError: NetBox does not answer, or the token may not read what is to be compared.
    """
    theirs = await _theirs(netbox, told)
    rows, on = await _ours(engine)
    made = Plan()
    for row in rows:
        key = row["external_ids"].get(SYSTEM, "")
        parsed = parse_key(key) if key else None
        if parsed and parsed[0] in (DEVICE, VM):
            obj = theirs.objects.get(key)
            if obj is None:
                made.skipped["recorded with an id that this NetBox has no more"] += 1
            else:
                _compare(row, obj, theirs, made)
        elif not key and row["kind"] == VM.name:
            _new(row, on.get(row["ref"], []), theirs, made, create=create)
        elif not key:
            made.skipped[
                "not in NetBox, and no virtual machines: to be made there by who knows type, role and place"
            ] += 1
    return made


async def _theirs(netbox: NetBox, told: Told) -> _Theirs:
    objects: dict[str, Object] = {}
    for kind in (DEVICE, VM):
        async for page in netbox.pages(kind.path, kind.model, [], _PAGE):
            objects |= {key_of(obj): obj for obj in page.results}
            told(f"{kind.name}s", len(page.results))
    fields = await netbox.all("extras/custom-fields", CustomField, [])
    tenants = await netbox.all("tenancy/tenants", Tenant, [])
    return _Theirs(objects, fields, {tenant.name: tenant.id for tenant in tenants})


async def _ours(engine: AsyncEngine) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Assets, and by ref of each the NetBox keys of what it runs on."""
    asset, edge = tables.asset, tables.relationship
    source, target = asset.alias("source_asset"), asset.alias("target_asset")
    runs = (
        select(source.c.ref, target.c.external_ids)
        .join(edge, edge.c.from_id == source.c.id)
        .join(target, target.c.id == edge.c.to_id)
        .where(edge.c.type.in_([RelationType.RUNS_ON.value, RelationType.DEPENDS_ON.value]))
        .order_by(edge.c.type.desc())
    )
    on: dict[str, list[str]] = {}
    async with engine.connect() as connection:
        rows = [dict(row) for row in (await connection.execute(select(asset).order_by(asset.c.ref))).mappings()]
        for ref, external in await connection.execute(runs):
            if external.get(SYSTEM):
                on.setdefault(ref, []).append(external[SYSTEM])
    return rows, on


def _compare(row: dict[str, Any], obj: Object, theirs: _Theirs, made: Plan) -> None:
    kind = kind_of(obj)
    body: dict[str, Any] = {}
    told: list[str] = []

    def becomes(name: str, before: Any, after: Any, value: Any = None) -> None:
        body[name] = after if value is None else value
        told.append(f"{name}: {before or '(empty)'} → {after}")

    facts = _facts(row)
    gave = facts.get("gave", [])
    changed = {}
    for name, value in _custom(row, kind, theirs).items():
        now = custom(obj, name)
        if now == value or (name == "criticality" and not now and value == Criticality.MEDIUM):
            continue  # medium is what is assumed when nobody said anything
        if name != REF_FIELD and now != facts.get(name, ""):
            made.skipped[f"fields changed there and here ({name}): import first, or decide by hand"] += 1
            continue
        changed[name] = value
        told.append(f"{name}: {now or '(empty)'} → {value}")
    if changed:
        body["custom_fields"] = changed
    # What NetBox said once and says no more was taken out there.
    if row["description"] and not obj.description and "description" not in gave:
        becomes("description", "", row["description"][:200])
    tenant = theirs.tenants.get(row["owner_team"])
    if tenant is not None and getattr(obj, "tenant", None) is None and "owner_team" not in gave:
        becomes("tenant", "", row["owner_team"], tenant)
    _lifecycle(row, obj, becomes)
    if body:
        step = Step(row["ref"], kind, obj.id, body, tuple(told), _mark(obj))
        made.steps.append(step)
    else:
        made.same += 1


def _facts(row: dict[str, Any]) -> dict[str, Any]:
    """What NetBox said at the last import."""
    found = row["attributes"].get(SYSTEM)
    return found if isinstance(found, dict) else {}


def _lifecycle(row: dict[str, Any], obj: Object, becomes: Any) -> None:
    """Only what was changed here since NetBox said it: what was changed there comes with the next import."""
    status = getattr(obj, "status", None)
    said = _facts(row).get("status")
    after = _STATUS.get(Lifecycle(row["lifecycle"]))
    if status is None or said != status.value or state_of(status)[0] == row["lifecycle"] or after is None:
        return
    becomes("status", status.value, after)


def _custom(row: dict[str, Any], kind: Kind, theirs: _Theirs) -> dict[str, str]:
    ours = {"environment": row["environment"], "criticality": row["criticality"], REF_FIELD: row["ref"]}
    return {name: str(value) for name, value in ours.items() if value and theirs.has(name, kind)}


def _mark(obj: Object) -> str:
    """The ETag that NetBox gives the version (since 4.6): its time of the last change."""
    return f'W/"{obj.last_updated.astimezone(UTC).isoformat()}"' if obj.last_updated else ""


def _new(row: dict[str, Any], on: list[str], theirs: _Theirs, made: Plan, *, create: bool) -> None:
    parsed = [found for key in on if (found := parse_key(key)) and found[0] in (CLUSTER, DEVICE, SITE)]
    if not parsed:
        made.skipped["virtual machines that run on nothing NetBox has"] += 1
        return
    named = parse_ref(row["ref"])
    name = named[2] if named else row["name"]
    kind, number = parsed[0]
    for key, obj in theirs.objects.items():
        if isinstance(obj, VirtualMachine) and obj.name == name and _stands(obj, kind, number):
            made.linked[row["ref"]] = key
            return
    if not create:
        made.skipped["virtual machines that NetBox does not have: --create makes them"] += 1
        return
    body: dict[str, Any] = {"name": name, "status": _STATUS.get(Lifecycle(row["lifecycle"]), "active")}
    if kind is DEVICE:
        host = theirs.objects.get(f"{DEVICE.object_type}:{number}")
        if not isinstance(host, Device) or host.cluster is None:
            made.skipped["virtual machines on a device that is in no cluster: NetBox takes none there"] += 1
            return
        body |= {"device": number, "cluster": host.cluster.id}
    else:
        body["cluster" if kind is CLUSTER else "site"] = number
    if row["description"]:
        body["description"] = row["description"][:200]
    if row["owner_team"] in theirs.tenants:
        body["tenant"] = theirs.tenants[row["owner_team"]]
    fields = _custom(row, VM, theirs)
    if fields.get("criticality") == Criticality.MEDIUM:
        del fields["criticality"]
    if fields:
        body["custom_fields"] = fields
    told = tuple(f"{key}: {value}" for key, value in body.items())
    made.steps.append(Step(row["ref"], VM, None, body, told))


def _stands(obj: VirtualMachine, kind: Kind, number: int) -> bool:
    place = {CLUSTER: obj.cluster, DEVICE: obj.device, SITE: obj.site}[kind]
    return place is not None and place.id == number


async def carry_out(engine: AsyncEngine, netbox: NetBox, made: Plan, message: str, told: Told) -> Done:
    """Do what the plan says; an object that was changed since it was looked at is left as it is, and told.

    Args:
        message: For NetBox's change log (since 4.4).
    """
    done = Done()
    for ref, key in made.linked.items():
        await _note(engine, ref, key)
    for step in made.steps:
        try:
            body = step.body | {"changelog_message": message[:200]}
            if step.id is None:
                obj = await netbox.create(step.kind.path, body, step.kind.model)
                await _note(engine, step.ref, key_of(obj))
                done.made += 1
            else:
                await _unchanged(netbox, step)
                obj = await netbox.patch(step.kind.path, step.id, body, step.kind.model, seen=step.seen)
                await _note(engine, step.ref, key_of(obj), _news(step.body))
                done.changed += 1
        except ToolError as error:
            done.failed.append(f"{step.ref}: {error.message}")
            if error.code is ErrorCode.BACKEND_UNAVAILABLE or error.details.get("refused"):
                left = len(made.steps) - done.changed - done.made - len(done.failed)
                if left:
                    done.failed.append(f"{left} more were not tried")
                break
        told("objects", 1)
    return done


async def _unchanged(netbox: NetBox, step: Step) -> None:
    """Versions before 4.6 do not compare by themselves."""
    now = await netbox.one(step.kind.path, step.id or 0, step.kind.model)
    if now is None or _mark(now) != step.seen:
        raise ToolError(ErrorCode.PRECONDITION_FAILED, "it was changed in NetBox meanwhile", hint="plan again")


def _news(body: dict[str, Any]) -> dict[str, Any]:
    """What NetBox now says, as an import would note it."""
    said = {name: value for name, value in body.get("custom_fields", {}).items() if name in CUSTOM}
    return said | ({"status": body["status"]} if "status" in body else {})


async def _note(engine: AsyncEngine, ref: str, key: str, news: dict[str, Any] | None = None) -> None:
    """Keep what NetBox now calls it. What the asset is does not change by that: no new version."""
    table = tables.asset
    async with engine.begin() as connection:
        row = (await connection.execute(select(table).where(table.c.ref == ref))).mappings().first()
        if row is None:
            return
        known = {"external_ids": {**row["external_ids"], SYSTEM: key}}
        facts = _facts(dict(row))
        if news and facts:
            # Else the next import took it for news of NetBox's, and the operational status with it.
            known["attributes"] = {**row["attributes"], SYSTEM: {**facts, **news}}
        search = search_text({**row, **known})
        await connection.execute(update(table).where(table.c.ref == ref).values(**known, search=search))
