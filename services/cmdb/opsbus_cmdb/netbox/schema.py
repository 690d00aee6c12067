"""What we read of NetBox's answers (REST API, 4.0 to 4.7), field by field. What is not named here is not asked for."""

from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Choice(_Read):
    """A value of a choice field. Which values there are is configured (`FIELD_CHOICES`), so any text may come."""

    value: str
    label: str = ""


class Named(_Read):
    """A related object in its brief form."""

    id: int
    name: str | None = None
    slug: str = ""
    display: str = ""


class Address(_Read):
    """A related IP address."""

    id: int
    address: str


class DeviceType(_Read):
    """A related device type."""

    id: int
    model: str = ""
    manufacturer: Named | None = None


class Tag(_Read):
    """A tag of an object."""

    name: str
    slug: str


class Object(_Read):
    """What every object we import has."""

    id: int = Field(ge=1)
    display: str = ""
    name: str | None = None
    description: str = ""
    tags: list[Tag] = Field(default_factory=list)
    custom_fields: dict[str, Any] = Field(default_factory=dict)
    created: datetime | None = None
    last_updated: datetime | None = None


class Tenant(Object):
    """Who uses it, or whose it is."""

    name: str
    slug: str


class Site(Object):
    """A place."""

    name: str
    slug: str
    status: Choice | None = None
    tenant: Named | None = None
    region: Named | None = None
    facility: str = ""


class Location(Object):
    """A part of a site: a building, a room."""

    name: str
    slug: str
    site: Named
    parent: Named | None = None
    status: Choice | None = None
    tenant: Named | None = None


class Cluster(Object):
    """Hosts that run virtual machines together."""

    name: str
    type: Named
    group: Named | None = None
    status: Choice | None = None
    tenant: Named | None = None
    scope_type: str | None = Field(default=None, description="Since 4.2: dcim.site, dcim.location, ...")
    scope: Named | None = None
    site: Named | None = Field(default=None, description="Until 4.1.")
    device_count: int = 0


class Device(Object):
    """A physical device. Its name may be null."""

    device_type: DeviceType
    role: Named
    site: Named
    tenant: Named | None = None
    platform: Named | None = None
    location: Named | None = None
    rack: Named | None = None
    parent_device: Named | None = None
    cluster: Named | None = None
    status: Choice | None = None
    serial: str = ""
    asset_tag: str | None = None
    primary_ip: Address | None = None


class VirtualMachine(Object):
    """A virtual machine, on a cluster, a device of one, or only at a site."""

    name: str
    status: Choice | None = None
    site: Named | None = None
    cluster: Named | None = None
    device: Named | None = None
    role: Named | None = None
    tenant: Named | None = None
    platform: Named | None = None
    primary_ip: Address | None = None
    vcpus: float | None = None
    memory: int | None = None
    disk: int | None = None


class Service(Object):
    """Something that listens on a device or a virtual machine."""

    name: str
    parent_object_type: str | None = Field(default=None, description="Since 4.3.")
    parent_object_id: int | None = None
    parent: Named | None = None
    device: Named | None = Field(default=None, description="Until 4.2.")
    virtual_machine: Named | None = Field(default=None, description="Until 4.2.")
    protocol: Choice | None = None
    ports: list[int] | None = None
    port_mappings: list[str] | None = Field(default=None, description="Since 4.7: tcp/443.")


class Contact(_Read):
    """A person or a team, and how to reach them."""

    id: int
    name: str
    title: str = ""
    phone: str = ""
    email: str = ""
    link: str = ""


class ContactAssignment(_Read):
    """Whose contact an object has, in which role."""

    id: int
    object_type: str
    object_id: int
    contact: Named
    role: Named | None = None
    priority: Choice | None = None


class InterfaceEnd(_Read):
    """The other end of a cable path."""

    id: int
    device: Named | None = None


class Interface(_Read):
    """A port of a device, and where its cable ends."""

    id: int
    device: Named
    connected_endpoints_type: str | None = None
    connected_endpoints: list[InterfaceEnd] | None = None
    connected_endpoints_reachable: bool | None = None


class CustomField(_Read):
    """A field that an administrator added to types of objects."""

    id: int
    name: str
    object_types: list[str]
    type: Choice


class StatusInfo(_Read):
    """`/api/status/`."""

    version: str = Field(alias="netbox-version")


R = TypeVar("R", bound=BaseModel)


class Listing(_Read, Generic[R]):
    """A page of a list."""

    count: int | None
    next: str | None
    results: list[R]


def fields_of(model: type[BaseModel]) -> str:
    """The `fields` parameter: only what we read, so that NetBox renders no config contexts for us."""
    return ",".join(model.model_fields)
