"""Who owns what: the last complete listing of ``event.cmdb.owners_listed``, in memory and searched by name.

The CMDB tells it, everybody may read it who is declared to (contracts ``streams.py``). Without a listing nobody owns
anything, which is no error.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from nats.aio.client import Client
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsbus.event_reader import EventReader, Seen
from opsbus_contracts.streams import OWNERS_LISTED, reader

RECENT_S = 7 * 3600.0
"""The CMDB tells all of them every six hours. Seconds."""
PARTS_MAX = 1_000
UNFINISHED_MAX = 4
HOSTS = ("host", "node", "vm", "device", "server")
KINDS = (
    "service", "application", "workload", "deployment", "statefulset", "daemonset", "cronjob", "job", "function",
    "database", "cache", "queue", *HOSTS,
)  # fmt: skip
"""Of assets that an alert or a workload can be about; the first is believed before the later ones."""


class Owned(BaseModel):
    """An asset that has an owner."""

    model_config = ConfigDict(extra="ignore")

    ref: str = Field(min_length=1, max_length=400)
    kind: str = Field(max_length=64)
    namespace: str = Field(default="", max_length=128)
    name: str = Field(max_length=200)
    service: str = Field(default="", max_length=200)
    environment: str = Field(default="", max_length=64)
    owner_team: str = Field(min_length=1, max_length=128)
    contact: str | None = Field(default=None, max_length=200)
    criticality: str = Field(default="", max_length=32)


class _Part(BaseModel):
    """The data of one event."""

    model_config = ConfigDict(extra="ignore")

    listing: str = Field(min_length=1, max_length=64)
    part: int = Field(ge=1, le=PARTS_MAX)
    of: int = Field(ge=1, le=PARTS_MAX)
    owners: list[Owned] = Field(max_length=200)


class Listing(NamedTuple):
    """A complete listing: its name, where in the stream its last part lies, and when that was told. Unix seconds."""

    name: str
    sequence: int
    at: float


class Owners:
    """The last complete listing. A part of another listing changes nothing before all of that one are there."""

    def __init__(self) -> None:
        self.listing: Listing | None = None
        self._unfinished: dict[str, dict[int, list[Owned]]] = {}
        self._count = 0
        self._by_place: dict[tuple[str, str], list[Owned]] = {}
        self._by_name: dict[str, list[Owned]] = {}
        self._by_service: dict[tuple[str, str], list[Owned]] = {}
        self._by_namespace: dict[str, Owned | None] = {}

    def __len__(self) -> int:
        return self._count

    def apply(self, seen: Seen) -> None:
        """A part of a listing."""
        try:
            part = _Part.model_validate(seen.event.data)
        except ValidationError:
            return
        parts = self._unfinished.pop(part.listing, {})
        parts[part.part] = part.owners
        self._unfinished[part.listing] = parts  # the last one to be given up
        if len(parts) >= part.of and all(place in parts for place in range(1, part.of + 1)):
            self._unfinished.clear()
            self.listing = Listing(part.listing, seen.sequence, seen.event.time.timestamp())
            self._index(owned for place in range(1, part.of + 1) for owned in parts[place])
        elif len(self._unfinished) > UNFINISHED_MAX:
            del self._unfinished[next(iter(self._unfinished))]

    def forget(self) -> None:
        """The stream is another one; what is known is kept until a listing comes, for somebody owns it still."""
        self._unfinished.clear()
        self.listing = None

    def of_workload(self, namespace: str, *names: str) -> Owned | None:
        """Of what runs in a namespace under one of the names; the first name that is known counts."""
        for name in names:
            found = self._by_place.get((namespace, name)) or self._by_service.get((namespace, name))
            if found:
                return found[0]
        return None

    def of_name(self, *names: str) -> Owned | None:
        """Of what has one of the names wherever it is, if all that have it have one owner."""
        for name in names:
            if found := _agreed(self._by_name.get(name, ())):
                return found
        return None

    def of_host(self, *names: str) -> Owned | None:
        """Of a machine, by its name or address with or without a port or domain."""
        for name in names:
            bare = name.rsplit(":", 1)[0]
            for known in (name, bare, bare.split(".", 1)[0]):
                hosts = [owned for owned in self._by_name.get(known, ()) if owned.kind in HOSTS]
                if found := _agreed(hosts):
                    return found
        return None

    def of_namespace(self, namespace: str) -> Owned | None:
        """Of a namespace in which everything has one owner."""
        return self._by_namespace.get(namespace)

    def _index(self, owners: Iterable[Owned]) -> None:
        by_place: dict[tuple[str, str], list[Owned]] = {}
        by_name: dict[str, list[Owned]] = {}
        by_service: dict[tuple[str, str], list[Owned]] = {}
        by_namespace: dict[str, Owned | None] = {}
        count = 0
        for owned in sorted(owners, key=_rank):
            count += 1
            by_place.setdefault((owned.namespace, owned.name), []).append(owned)
            by_name.setdefault(owned.name, []).append(owned)
            if owned.service and owned.service != owned.name:
                by_service.setdefault((owned.namespace, owned.service), []).append(owned)
            if owned.kind not in HOSTS and owned.namespace:
                first = by_namespace.setdefault(owned.namespace, owned)
                if first is not None and first.owner_team != owned.owner_team:
                    by_namespace[owned.namespace] = None
        self._count = count
        self._by_place, self._by_name, self._by_service = by_place, by_name, by_service
        self._by_namespace = by_namespace


class OwnersReader:
    """The owners as a service reads them, kept current while it runs."""

    def __init__(self, nc: Client, service: str) -> None:
        self.known = Owners()
        self.reader = EventReader(
            nc,
            reader(service, OWNERS_LISTED),
            self.known.apply,
            forget=self.known.forget,
            recent_s=RECENT_S,
            enough=lambda: self.known.listing is not None,
        )


def _rank(owned: Owned) -> tuple[int, str]:
    return KINDS.index(owned.kind) if owned.kind in KINDS else len(KINDS), owned.ref


def _agreed(found: Iterable[Owned]) -> Owned | None:
    first: Owned | None = None
    for owned in found:
        if first is not None and first.owner_team != owned.owner_team:
            return None
        first = first or owned
    return first


def part_of(listing: str, part: int, of: int, owners: list[Owned]) -> dict[str, Any]:
    """The data of one event: what ``Owners.apply`` reads."""
    return {
        "listing": listing,
        "part": part,
        "of": of,
        "owners": [owned.model_dump(mode="json") for owned in owners],
    }
