"""NetBox's objects as assets and relationships. Pure: no request, no store."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote

from opsbus_cmdb.model import Asset, Criticality, Lifecycle, RelationType, Status
from opsbus_cmdb.netbox.schema import (
    Choice,
    Cluster,
    Contact,
    ContactAssignment,
    Device,
    Interface,
    Location,
    Named,
    Object,
    Service,
    Site,
    VirtualMachine,
)

SOURCE = "netbox"
SYSTEM = "netbox"
"""The key of `external_ids`; the value is `dcim.device:12`."""
CUSTOM = ("environment", "criticality")
"""Custom fields that fill an asset's fields, where NetBox has them."""
CONTACT_ROLES = ("contact", "on_call", "chat", "escalation", "runbook")
"""A contact role whose slug is one of these (`on-call`) fills that; the first of any other role fills `contact`."""
_PRIORITIES = {"primary": 0, "secondary": 1, "tertiary": 2}

STATUSES: dict[str, tuple[Lifecycle, Status]] = {
    "planned": (Lifecycle.PLANNED, Status.UNKNOWN),
    "inventory": (Lifecycle.PLANNED, Status.UNKNOWN),
    "staged": (Lifecycle.DEPLOYING, Status.UNKNOWN),
    "staging": (Lifecycle.DEPLOYING, Status.UNKNOWN),
    "active": (Lifecycle.ACTIVE, Status.OPERATIONAL),
    "offline": (Lifecycle.ACTIVE, Status.DOWN),
    "failed": (Lifecycle.ACTIVE, Status.DOWN),
    "paused": (Lifecycle.ACTIVE, Status.MAINTENANCE),
    "decommissioning": (Lifecycle.RETIRING, Status.UNKNOWN),
    "retired": (Lifecycle.RETIRED, Status.UNKNOWN),
}
"""NetBox has one status for both fields. One that is configured beside these, and one that is not given, is an active
asset of which nothing else is known."""
OTHER = (Lifecycle.ACTIVE, Status.UNKNOWN)


@dataclass(frozen=True)
class Kind:
    """A kind of asset and the list of NetBox that has it."""

    name: str
    path: str
    object_type: str
    """NetBox's name of the type: dcim.device."""
    model: type[Object]
    statuses: tuple[str, ...]
    """Those that NetBox ships; empty: it has none."""
    asset_class: str = "infrastructure"


_PLACE = ("planned", "staging", "active", "decommissioning", "retired")
SITE = Kind("site", "dcim/sites", "dcim.site", Site, _PLACE)
LOCATION = Kind("location", "dcim/locations", "dcim.location", Location, _PLACE)
CLUSTER = Kind(
    "cluster", "virtualization/clusters", "virtualization.cluster", Cluster,
    ("planned", "staging", "active", "decommissioning", "offline"),
)  # fmt: skip
DEVICE = Kind(
    "device", "dcim/devices", "dcim.device", Device,
    ("offline", "active", "planned", "staged", "failed", "inventory", "decommissioning"),
)  # fmt: skip
VM = Kind(
    "vm", "virtualization/virtual-machines", "virtualization.virtualmachine", VirtualMachine,
    ("offline", "active", "planned", "staged", "failed", "decommissioning", "paused"),
)  # fmt: skip
SERVICE = Kind("service", "ipam/services", "ipam.service", Service, (), asset_class="application")
KINDS = (SITE, LOCATION, CLUSTER, DEVICE, VM, SERVICE)
"""What others need comes first."""
BY_NAME = {kind.name: kind for kind in KINDS}
BY_TYPE = {kind.object_type: kind for kind in KINDS}
BY_MODEL = {kind.model: kind for kind in KINDS}


@dataclass(frozen=True)
class Edge:
    """What an object needs: another, by type and id."""

    type: RelationType
    to: str
    """`dcim.site:1`"""
    impact: str = "hard"
    redundancy: str = "none"


@dataclass
class People:
    """Contacts by object (`dcim.device:12`): contact, on_call, ..."""

    of: dict[str, dict[str, str]] = field(default_factory=dict)

    def reach(self, obj: Object) -> dict[str, str]:
        """How to reach those who answer for an object; its tenant's contacts where it has none."""
        tenant = getattr(obj, "tenant", None)
        own = self.of.get(key_of(obj), {})
        return own or (self.of.get(f"tenancy.tenant:{tenant.id}", {}) if tenant else {})


def people(assignments: Iterable[ContactAssignment], contacts: Iterable[Contact]) -> People:
    """Contacts of all objects, the primary first."""
    known = {contact.id: contact for contact in contacts}
    found = People()
    ranked = sorted(
        assignments, key=lambda item: (_PRIORITIES.get(item.priority.value if item.priority else "", 3), item.id)
    )
    for item in ranked:
        reached = found.of.setdefault(f"{item.object_type}:{item.object_id}", {})
        role = item.role.slug.replace("-", "_") if item.role else ""
        name = role if role in CONTACT_ROLES else "contact"
        reached.setdefault(name, _reach(item.contact, known.get(item.contact.id), name))
    return found


def _reach(brief: Named, contact: Contact | None, role: str) -> str:
    name = brief.name or brief.display
    if contact is None:
        return name
    if role in ("chat", "runbook") and contact.link:
        return contact.link
    ways = [way for way in (contact.email, contact.phone, contact.link) if way]
    return f"{contact.name} ({', '.join(ways)})" if ways else contact.name


def kind_of(obj: Object) -> Kind:
    """The kind of an object."""
    return BY_MODEL[type(obj)]


def key_of(obj: Object) -> str:
    """`dcim.device:12`: the same as long as NetBox has the object."""
    return f"{kind_of(obj).object_type}:{obj.id}"


def parse_key(key: str) -> tuple[Kind, int] | None:
    """The kind and id in `dcim.device:12`; None when it is no such thing."""
    type_, _, number = key.rpartition(":")
    if type_ not in BY_TYPE or not number.isascii() or not number.isdigit() or len(number) > 18:
        return None
    return BY_TYPE[type_], int(number)


def ref_of(obj: Object) -> str:
    """`kind:namespace/name`. What a ref cannot hold is written as a URL would write it, so that it reads back."""
    return f"{kind_of(obj).name}:{_part(namespace_of(obj), 128, slash=True)}/{_part(name_of(obj), 200)}"


def parse_ref(ref: str) -> tuple[str, str, str] | None:
    """Kind, namespace and name as NetBox spells them."""
    kind, colon, path = ref.partition(":")
    namespace, slash, name = path.partition("/")
    return (kind, unquote(namespace), unquote(name)) if colon and slash and name else None


def _part(text: str, room: int, *, slash: bool = False) -> str:
    return "".join(
        quote(sign, safe="") if sign.isspace() or sign == "%" or (slash and sign == "/") else sign for sign in text
    )[:room]


def name_of(obj: Object) -> str:
    """Its name; places go by slug, a device without a name by its number."""
    if isinstance(obj, Site | Location):
        return obj.slug
    return obj.name or f"#{obj.id}"


def namespace_of(obj: Object) -> str:
    """What a name is unique in, nearly: a device's site, a machine's cluster, what a service listens on."""
    if isinstance(obj, Device | Location):
        return obj.site.slug
    if isinstance(obj, VirtualMachine):
        return _called(obj.cluster) or (obj.site.slug if obj.site else "")
    if isinstance(obj, Cluster):
        scope = obj.scope or obj.site
        return scope.slug if scope else ""
    if isinstance(obj, Service):
        return _called(obj.parent or obj.device or obj.virtual_machine)
    return ""


def _called(related: Named | None) -> str:
    return (related.name or f"#{related.id}") if related else ""


def state_of(status: Choice | None) -> tuple[Lifecycle, Status]:
    """The two fields that NetBox's status stands for."""
    return STATUSES.get(status.value, OTHER) if status else OTHER


def asset_of(obj: Object, known: People, where: str) -> Asset:
    """An object as an asset. `where` is the address a person opens it at."""
    kind = kind_of(obj)
    status: Choice | None = getattr(obj, "status", None)
    lifecycle, operational = state_of(status)
    tenant: Named | None = getattr(obj, "tenant", None)
    seen = obj.last_updated or obj.created or datetime(1970, 1, 1, tzinfo=UTC)
    return Asset(
        id=key_of(obj),
        ref=ref_of(obj),
        kind=kind.name,
        asset_class=kind.asset_class,
        namespace=_part(namespace_of(obj), 128, slash=True),
        name=_part(name_of(obj), 200),
        description=obj.description,
        environment=custom(obj, "environment")[:64],
        lifecycle=lifecycle,
        status=operational,
        criticality=criticality_of(obj) or Criticality.MEDIUM,
        owner_team=(_called(tenant))[:128],
        # What counts versions elsewhere: milliseconds of NetBox's own last change.
        version=max(1, int(seen.timestamp() * 1000)),
        attributes=_attributes(obj, where, status) | known.reach(obj),
        labels=labels_of(obj),
        external_ids={SYSTEM: key_of(obj)},
        source=SOURCE,
        created_at=obj.created or seen,
        updated_at=seen,
    )


def custom(obj: Object, name: str) -> str:
    """A custom field as text; a selection is a plain value until 4.6 and a value with its label since."""
    value = obj.custom_fields.get(name)
    if isinstance(value, dict):
        value = value.get("value", value.get("name"))
    return value.strip() if isinstance(value, str) else ""


def criticality_of(obj: Object) -> Criticality | None:
    """The custom field, if it says one of ours."""
    said = custom(obj, "criticality").lower()
    return Criticality(said) if said in set(Criticality) else None


def labels_of(obj: Object) -> dict[str, str]:
    """Role, site, platform, tenant as slugs, and a label for each tag."""
    labels = {}
    for name in ("site", "location", "role", "platform", "tenant", "region"):
        related: Named | None = getattr(obj, name, None)
        if related is not None and related.slug:
            labels[name] = related.slug
    return labels | {f"tag/{tag.slug}": "true" for tag in obj.tags}


def _attributes(obj: Object, where: str, status: Choice | None) -> dict[str, Any]:
    kind = kind_of(obj)
    facts: dict[str, Any] = {"url": f"{where}/{kind.path}/{obj.id}/", "name": obj.name or ""}
    if status is not None:
        facts["status"] = status.value
    if isinstance(obj, Device):
        maker = obj.device_type.manufacturer
        facts["device_type"] = " ".join(part for part in (_called(maker), obj.device_type.model) if part)
        facts |= {"serial": obj.serial, "asset_tag": obj.asset_tag or "", "rack": _called(obj.rack)}
    if isinstance(obj, VirtualMachine):
        facts |= {"vcpus": obj.vcpus, "memory_mb": obj.memory, "disk_mb": obj.disk}
    if isinstance(obj, Device | VirtualMachine) and obj.primary_ip:
        facts["primary_ip"] = obj.primary_ip.address
    if isinstance(obj, Cluster):
        facts |= {"type": _called(obj.type), "group": _called(obj.group)}
    if isinstance(obj, Service):
        facts["listens"] = listens(obj)
    if isinstance(obj, Site):
        facts["facility"] = obj.facility
    return {SYSTEM: {name: value for name, value in facts.items() if value not in (None, "", [])}}


def listens(service: Service) -> list[str]:
    """`tcp/443`, in whichever form NetBox says it."""
    if service.port_mappings is not None:
        return service.port_mappings
    protocol = service.protocol.value if service.protocol else "any"
    return [f"{protocol}/{port}" for port in service.ports or []]


def edges_of(obj: Object, hosts: int = 0) -> list[Edge]:
    """What an object needs. `hosts`: of a device's cluster, how many there are; with several it can lose one."""
    needs: list[Edge] = []
    if isinstance(obj, Location):
        needs.append(_on_location(obj.parent) if obj.parent else _on_site(obj.site))
    elif isinstance(obj, Cluster):
        needs += _scope(obj)
    elif isinstance(obj, Device):
        needs.append(_on_location(obj.location) if obj.location else _on_site(obj.site))
        if obj.parent_device:
            needs.append(Edge(RelationType.RUNS_ON, f"{DEVICE.object_type}:{obj.parent_device.id}"))
        if obj.cluster:
            needs.append(
                Edge(
                    RelationType.PART_OF,
                    f"{CLUSTER.object_type}:{obj.cluster.id}",
                    redundancy="active_active" if hosts > 1 else "none",
                )
            )
    elif isinstance(obj, VirtualMachine):
        if obj.device:
            needs.append(Edge(RelationType.RUNS_ON, f"{DEVICE.object_type}:{obj.device.id}"))
        elif obj.cluster:
            needs.append(Edge(RelationType.RUNS_ON, f"{CLUSTER.object_type}:{obj.cluster.id}"))
        elif obj.site:
            needs.append(_on_site(obj.site))
    elif isinstance(obj, Service):
        parent = service_parent(obj)
        if parent:
            needs.append(Edge(RelationType.RUNS_ON, parent))
    return needs


def _on_site(site: Named) -> Edge:
    return Edge(RelationType.DEPENDS_ON, f"{SITE.object_type}:{site.id}")


def _on_location(location: Named) -> Edge:
    return Edge(RelationType.DEPENDS_ON, f"{LOCATION.object_type}:{location.id}")


def _scope(cluster: Cluster) -> list[Edge]:
    if cluster.scope and cluster.scope_type in (SITE.object_type, LOCATION.object_type):
        return [Edge(RelationType.DEPENDS_ON, f"{cluster.scope_type}:{cluster.scope.id}")]
    return [_on_site(cluster.site)] if cluster.site else []


def service_parent(service: Service) -> str:
    """What it listens on, as `dcim.device:12`; empty for what we do not import (FHRP groups)."""
    if service.parent_object_type:
        known = (
            service.parent_object_type in (DEVICE.object_type, VM.object_type) and service.parent_object_id is not None
        )
        return f"{service.parent_object_type}:{service.parent_object_id}" if known else ""
    if service.device:
        return f"{DEVICE.object_type}:{service.device.id}"
    return f"{VM.object_type}:{service.virtual_machine.id}" if service.virtual_machine else ""


def cabled(interfaces: Iterable[Interface]) -> dict[int, set[int]]:
    """Devices that a cable path joins, both ways. Ends that are no interface (circuits, patch panels) are left out."""
    joined: dict[int, set[int]] = {}
    for port in interfaces:
        if port.connected_endpoints_type != "dcim.interface":
            continue
        for end in port.connected_endpoints or []:
            if end.device is not None and end.device.id != port.device.id:
                joined.setdefault(port.device.id, set()).add(end.device.id)
                joined.setdefault(end.device.id, set()).add(port.device.id)
    return joined


def uplinks(joined: dict[int, set[int]], hosts: set[int]) -> list[tuple[int, int, str]]:
    """Who needs whom along the cables: a device that runs something needs those it is plugged into that run nothing;
    with several of them each is one of several. Between two of a kind a cable does not say who needs whom.

    Returns:
        Needing device, needed device, redundancy.
    """
    needs = []
    for host in sorted(hosts & joined.keys()):
        above = sorted(joined[host] - hosts)
        needs += [(host, device, "active_active" if len(above) > 1 else "none") for device in above]
    return needs
