"""Everything an import needs out of a NetBox: what was read, what was left out, and why."""

from dataclasses import dataclass, field
from datetime import datetime

from opsbus import ErrorCode, ToolError
from opsbus_cmdb.netbox.client import NetBox, Params
from opsbus_cmdb.netbox.mapping import BY_TYPE, CLUSTER, KINDS, LOCATION, SITE, Kind, People, people
from opsbus_cmdb.netbox.schema import Contact, ContactAssignment, Interface, Object
from opsbus_cmdb.transfer.apply import Told

PAGE = 200
MOST = 500_000
TRIED = ((4, 0), (4, 7))
"""Versions whose answers we know, first and last."""
_ALWAYS = (SITE, LOCATION, CLUSTER)
"""Few, and others refer to them: read in full even when only what changed is asked for."""


@dataclass
class Pulled:
    """What a NetBox answered."""

    version: str
    objects: list[Object] = field(default_factory=list)
    known: People = field(default_factory=People)
    cables: list[Interface] = field(default_factory=list)
    since: datetime | None = None
    warnings: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Lists that the token may not read."""

    @property
    def whole(self) -> bool:
        """Whether what is not in it is not in NetBox."""
        return self.since is None and not self.refused


async def pull(netbox: NetBox, told: Told, *, since: datetime | None = None, cables: bool = False) -> Pulled:
    """Read all kinds of objects.

    Raises:
        ToolError: NetBox does not answer, or lets the token read nothing at all.
    """
    version = await netbox.version()
    found = Pulled(version, since=since)
    found.warnings += _untried(version)
    for kind in KINDS:
        await _read(netbox, kind, found, told)
    if len(found.refused) == len(KINDS):
        raise ToolError(
            ErrorCode.BACKEND_ERROR,
            f"NetBox at {netbox.where} lets this token read nothing",
            hint="give its user the permission to view sites, clusters, devices, virtual machines and services",
        )
    await _people(netbox, found, told)
    if cables:
        params = [("connected", "true"), ("cabled", "true")]
        async for page in netbox.pages("dcim/interfaces", Interface, params, PAGE):
            found.cables += page.results
            told("interfaces", len(page.results))
    return found


def _untried(version: str) -> list[str]:
    try:
        major, minor = (int(part) for part in version.split("-")[0].split(".")[:2])
    except ValueError:
        return [f"NetBox says it is version {version!r:.40}: read as if it were 4.x"]
    if TRIED[0] <= (major, minor) <= TRIED[1]:
        return []
    return [f"NetBox {version}: known are 4.0 to 4.7, look at the result before you trust it"]


async def _read(netbox: NetBox, kind: Kind, found: Pulled, told: Told) -> None:
    since = None if kind in _ALWAYS else found.since
    params: Params = [("last_updated__gte", since.isoformat())] if since else []
    try:
        async for page in netbox.pages(kind.path, kind.model, params, PAGE):
            for obj in page.results:
                if since and obj.last_updated and obj.last_updated < since:
                    raise ToolError(
                        ErrorCode.BACKEND_ERROR,
                        f"NetBox at {netbox.where} ignores last_updated__gte for {kind.path}",
                        hint="import everything: leave --since out",
                    )
            found.objects += page.results
            told(f"{kind.name}s", len(page.results))
            if len(found.objects) > MOST:
                raise ToolError(
                    ErrorCode.RESULT_TOO_LARGE, f"NetBox has more than {MOST:,} objects", hint="use --since"
                )
    except ToolError as error:
        if not _forbidden(error):
            raise
        found.refused.append(f"{kind.name}s")


async def _people(netbox: NetBox, found: Pulled, told: Told) -> None:
    try:
        assigned = await netbox.all("tenancy/contact-assignments", ContactAssignment, [], PAGE)
        contacts = await netbox.all("tenancy/contacts", Contact, [], PAGE)
    except ToolError as error:
        if not _forbidden(error):
            raise
        found.warnings.append("contacts were left out: the token may not read them")
        return
    ours = [item for item in assigned if item.object_type in BY_TYPE or item.object_type == "tenancy.tenant"]
    found.known = people(ours, contacts)
    told("contacts", len(contacts))


def _forbidden(error: ToolError) -> bool:
    return bool(error.details.get("permission"))
