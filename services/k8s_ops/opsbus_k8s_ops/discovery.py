"""Which kinds a cluster serves, found by asking it: one aggregated request, or one per group from older servers.

What is done with an object of a kind is not known here. The answer is the same for every caller and is kept for a
while per cluster.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_k8s_ops.api import GROUPS, ClusterApi, Obj

AGGREGATED = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)
"""Accept: all groups in one answer, from servers that can (1.27 and later)."""

KEPT_S = 600.0
"""How long an answer is kept. Seconds."""

STALE_S = 10.0
"""A kind that is not known is asked for again when the answer is older than this: it may have come since. Seconds."""

REQUESTS_AT_ONCE = 8

CHOICES = {
    "events": ("/apis/events.k8s.io/v1", "/api/v1"),
    "horizontalpodautoscalers": ("/apis/autoscaling/v2", "/apis/autoscaling/v1"),
    "poddisruptionbudgets": ("/apis/policy/v1", "/apis/policy/v1beta1"),
}
"""Where a resource can be read, the best first; what is not here is the same in all versions of Kubernetes meant."""


@dataclass(frozen=True)
class ResourceKind:
    """One kind of object, as the cluster serves it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    singular: str = ""
    short_names: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    subresources: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Name and verbs of each."""

    @property
    def api_version(self) -> str:
        """``v1`` or ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """``pods`` or ``deployments.apps``: what no other group has."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def names(self) -> frozenset[str]:
        """What a caller may call it, in lower case."""
        plain = {self.kind.lower(), self.plural, self.singular or self.kind.lower(), *self.short_names}
        full = {f"{name}.{self.group}" for name in (self.kind.lower(), self.plural)} if self.group else set()
        return frozenset(plain | full | {f"{self.api_version}/{self.kind}".lower()})

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """The address of the list, or of one object."""
        root = ["", "apis", self.group, self.version] if self.group else ["", "api", self.version]
        place = ["namespaces", namespace] if namespace and self.namespaced else []
        return "/".join(quote(part, safe="") for part in (*root, *place, self.plural, *([name] if name else [])))

    def verbs_of(self, subresource: str | None) -> tuple[str, ...] | None:
        """What can be done with it, or with a subresource; None: there is no such subresource."""
        return self.verbs if subresource is None else dict(self.subresources).get(subresource)


@dataclass
class Catalogue:
    """What a cluster serves, in its own order. ``missing``: groups that did not answer."""

    kinds: list[ResourceKind] = field(default_factory=list)
    """Each once a group, in the version that the cluster likes best."""
    places: set[tuple[str, str]] = field(default_factory=set)
    """Path of every group and version, and the resources there."""
    missing: list[str] = field(default_factory=list)
    read_at: float = field(default_factory=time.monotonic)

    def called(self, text: str) -> list[ResourceKind]:
        """The kinds of this name, the cluster's first choice first."""
        wanted = text.strip().lower()
        return [kind for kind in self.kinds if wanted in kind.names]

    def add(self, kind: ResourceKind, seen: set[tuple[str, str]]) -> None:
        """A kind in one of its versions, the best of which comes first."""
        self.places.add((kind.path().rpartition("/")[0], kind.plural))
        if (kind.group, kind.plural) not in seen:
            seen.add((kind.group, kind.plural))
            self.kinds.append(kind)


class Discovery:
    """The catalogues of all clusters, read when they are needed."""

    def __init__(self) -> None:
        self._known: dict[str, Catalogue] = {}
        self._unread: dict[str, float] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def find(self, api: ClusterApi, text: str) -> tuple[ResourceKind, list[str]]:
        """The kind called ``text`` (``Deployment``, ``deploy``, ``deployments.apps``), and warnings.

        Raises:
            ToolError: ``not_found`` with near names; the cluster's own.
        """
        catalogue = await self.catalogue(api, KEPT_S)
        found = catalogue.called(text)
        if not found:
            catalogue = await self.catalogue(api, STALE_S)
            found = catalogue.called(text)
        if not found:
            missing = f" These groups do not answer: {', '.join(catalogue.missing)}." if catalogue.missing else ""
            spoken = list(dict.fromkeys(name for kind in catalogue.kinds for name in (kind.kind, kind.plural)))
            meant = near(text, spoken) or _same_but_case(text, spoken)
            raise ToolError(
                ErrorCode.NOT_FOUND,
                f"cluster {api.name} serves no kind {text!r}",
                hint=f"Give a kind, its plural or short name, or plural.group.{missing}",
                did_you_mean=meant,
                details={"cluster": api.name},
            )
        if _is_own(found[0]):
            return found[0], []
        others = [kind.qualified for kind in found[1:]]
        if others:
            return found[0], [f"{text!r} is also {', '.join(others)}: {found[0].qualified} was taken"]
        return found[0], []

    async def roots(self, api: ClusterApi, resource: str) -> list[str]:
        """Where a resource is to be read, the best first. A cluster that does not say what it serves is taken for one
        that serves what all do."""
        choices = CHOICES.get(resource)
        if choices is None or time.monotonic() - self._unread.get(api.name, -STALE_S) < STALE_S:
            return [GROUPS[resource]]
        try:
            catalogue = await self.catalogue(api, KEPT_S)
        except ToolError:
            self._unread[api.name] = time.monotonic()
            return [GROUPS[resource]]
        return [root for root in choices if (root, resource) in catalogue.places] or [GROUPS[resource]]

    async def catalogue(self, api: ClusterApi, age_max_s: float) -> Catalogue:
        """What a cluster serves, at most so old."""
        lock = self._locks.setdefault(api.name, asyncio.Lock())
        async with lock:
            known = self._known.get(api.name)
            if known is None or time.monotonic() - known.read_at > age_max_s:
                known = self._known[api.name] = await read_catalogue(api)
            return known


def _is_own(kind: ResourceKind) -> bool:
    """Of Kubernetes itself: whoever says pods does not mean those of metrics.k8s.io."""
    return not kind.group or kind.group in ("apps", "autoscaling", "batch", "policy") or kind.group.endswith(".k8s.io")


def _same_but_case(text: str, names: Iterable[str]) -> list[str]:
    lower = {name.lower(): name for name in names}
    return [lower[name] for name in near(text.lower(), lower)]


async def read_catalogue(api: ClusterApi) -> Catalogue:
    """Asks the cluster.

    Raises:
        ToolError: not even the list of groups could be read.
    """
    core = await api.get("/api", "read which kinds there are", accept=AGGREGATED)
    if core.get("kind") == "APIGroupDiscoveryList":
        groups = await api.get("/apis", "read which kinds there are", accept=AGGREGATED)
        return _aggregated([*(core.get("items") or []), *(groups.get("items") or [])])
    return await _group_by_group(api, core)


def _aggregated(items: list[Obj]) -> Catalogue:
    catalogue, seen = Catalogue(), set[tuple[str, str]]()
    for item in items:
        group = str((item.get("metadata") or {}).get("name") or "")
        for version in item.get("versions") or []:
            if version.get("freshness") == "Stale":
                catalogue.missing.append(f"{group}/{version.get('version')}")
            for entry in version.get("resources") or []:
                catalogue.add(_discovered(group, str(version.get("version") or ""), entry), seen)
    return catalogue


def _discovered(group: str, version: str, entry: Obj) -> ResourceKind:
    return ResourceKind(
        group,
        version,
        str(entry.get("resource") or ""),
        str((entry.get("responseKind") or {}).get("kind") or ""),
        entry.get("scope") == "Namespaced",
        str(entry.get("singularResource") or ""),
        tuple(entry.get("shortNames") or ()),
        tuple(entry.get("verbs") or ()),
        tuple((str(sub.get("subresource")), tuple(sub.get("verbs") or ())) for sub in entry.get("subresources") or []),
    )


async def _group_by_group(api: ClusterApi, core: Obj) -> Catalogue:
    groups = (await api.get("/apis", "read which groups there are")).get("groups") or []
    wanted = [("", str(version), f"/api/{version}") for version in core.get("versions") or ["v1"]]
    for group in groups:
        wanted += [
            (str(group.get("name")), str(entry.get("version")), f"/apis/{entry.get('groupVersion')}")
            for entry in _preferred_first(group)
        ]
    places, catalogue = asyncio.Semaphore(REQUESTS_AT_ONCE), Catalogue()

    async def read(path: str) -> Obj | ToolError:
        async with places:
            try:
                return await api.get(path, f"read the kinds of {path}")
            except ToolError as error:
                return error  # an aggregated API that is down hides its own kinds alone

    answers = await asyncio.gather(*(read(path) for _, _, path in wanted))
    seen: set[tuple[str, str]] = set()
    for (group, version, path), answer in zip(wanted, answers, strict=True):
        if isinstance(answer, ToolError):
            catalogue.missing.append(path.rpartition("/apis/")[2])
            continue
        for kind in _listed(group, version, answer.get("resources") or []):
            catalogue.add(kind, seen)
    return catalogue


def _preferred_first(group: Obj) -> list[Obj]:
    preferred = (group.get("preferredVersion") or {}).get("version")
    return sorted(group.get("versions") or [], key=lambda entry: entry.get("version") != preferred)


def _listed(group: str, version: str, entries: list[dict[str, Any]]) -> list[ResourceKind]:
    below: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    for entry in entries:
        plural, slash, subresource = str(entry.get("name") or "").partition("/")
        if slash:
            below.setdefault(plural, []).append((subresource, tuple(entry.get("verbs") or ())))
    return [
        ResourceKind(
            group,
            version,
            str(entry.get("name")),
            str(entry.get("kind") or ""),
            bool(entry.get("namespaced")),
            str(entry.get("singularName") or ""),
            tuple(entry.get("shortNames") or ()),
            tuple(entry.get("verbs") or ()),
            tuple(below.get(str(entry.get("name")), ())),
        )
        for entry in entries
        if "/" not in str(entry.get("name") or "")
    ]
