"""k8s_get_resource."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, Page, ToolError
from opsbus_k8s_ops.api import ClusterApi, Obj
from opsbus_k8s_ops.arguments import Cluster, LabelSelector, Limit, Namespace, PageCursor
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.discovery import ResourceKind
from opsbus_k8s_ops.listing import Listing, list_objects
from opsbus_k8s_ops.locating import outside_namespaces, read_object
from opsbus_k8s_ops.masking import mask_text
from opsbus_k8s_ops.models import LINES_MAX, optional
from opsbus_k8s_ops.objectmask import clean
from opsbus_k8s_ops.objects import in_words, meta, seconds_since
from opsbus_k8s_ops.paging import BUDGET_BYTES, Key, fit_page, query_digest
from opsbus_k8s_ops.scope import list_in_scope
from opsbus_k8s_ops.selection import EXPRESSION_CHARS_MAX, compile_path, select
from opsbus_k8s_ops.trimming import trim

OBJECT_BYTES = BUDGET_BYTES - 4_000
"""Of one object; the rest is for the envelope and the warnings."""

ROW_BYTES = 4_000
"""Of the values of one row of a list."""

TEXT_CHARS = 6_000

LEFT_OUT_TOLD = 8

GOOD = ("Ready", "Available", "Established", "Complete", "Synced", "Healthy")
"""Conditions that are well when they are True."""
BAD_PHASES = ("Failed", "Pending", "Lost", "Unknown", "Error")


class ResourceRow(BaseModel):
    """One object: whole when it was asked for by name without fields, else what was chosen of it."""

    name: str
    namespace: str | None = optional()
    state: str | None = optional("Its phase, or the condition that says how it is.")
    age_s: int | None = optional("Seconds since creation.")
    version: str | None = optional("resourceVersion: give it as expected_version to a write.")
    object: dict[str, Any] | None = optional("Without managedFields, secrets masked.")
    values: dict[str, Any] | None = optional("By the fields that were asked for; null: nothing is there.")

    def to_text(self) -> str:
        """The object as YAML, or one line."""
        if self.object is not None:
            text = yaml.safe_dump(self.object, sort_keys=False, allow_unicode=True, width=200)
            more = len(text) - TEXT_CHARS
            return text if more <= 0 else f"{text[:TEXT_CHARS]}\n... {more} more characters in the structured answer"
        age = in_words(self.age_s) if self.age_s is not None else None
        parts = [f"{self.namespace}/{self.name}" if self.namespace else self.name, self.state, age]
        chosen = "; ".join(f"{name}={value}" for name, value in (self.values or {}).items())
        return " ".join(part for part in (*parts, chosen[:500]) if part)


class ResourceList(Page[ResourceRow]):
    """One object by its name, or the objects of a kind."""

    cluster: str = ""
    kind: str = ""
    api_version: str = ""

    def to_text(self) -> str:
        """What kind, then the objects."""
        lines = [f"{self.cluster}: {self.page.total} {self.kind} ({self.api_version})"]
        lines += [item.to_text() for item in self.items[:LINES_MAX]]
        if len(self.items) > LINES_MAX:
            lines.append(f"... and {len(self.items) - LINES_MAX} more rows in the structured answer")
        if self.page.next_cursor:
            lines.append(f"More with cursor={self.page.next_cursor}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


Path = Annotated[str, Field(min_length=1, max_length=EXPRESSION_CHARS_MAX)]


async def get_resource(
    ctx: Context[Clusters],
    kind: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            pattern=r"^[A-Za-z][A-Za-z0-9./\-]*$",
            description="Any kind the cluster serves: ConfigMap, svc, ingresses, certificates.cert-manager.io.",
        ),
    ],
    name: Annotated[
        str | None,
        Field(max_length=253, pattern=r"^[^\s/%?#]+$", description="One object. Default: the objects there are."),
    ] = None,
    namespace: Annotated[
        Namespace | None, Field(description="Needed with a name; else default: all. Leave out for nodes and the like.")
    ] = None,
    fields: Annotated[
        list[Path] | None,
        Field(
            max_length=20,
            description="Only these parts: dotted (spec.replicas) or JSONPath ($.spec.containers[*].image, "
            "metadata.annotations['a.b/c']).",
        ),
    ] = None,
    label_selector: LabelSelector = None,
    limit: Limit = 50,
    cursor: PageCursor = None,
    cluster: Cluster = None,
) -> ResourceList:
    """Any object of the cluster as it is stored, or the list of a kind: services, ingresses, config maps, nodes, CRDs.

    managedFields are left out; Secret data and credential-like values are masked, keys kept. A large object is cut,
    and says which fields to ask for. For pods and workloads k8s_get_pods and k8s_get_deployments judge health; use
    this for the rest. Example: kind="ingress", name="frontend", namespace="shop", fields=["spec.rules"].
    """
    clusters, now = ctx.state, datetime.now(UTC)
    for path in fields or []:
        compile_path(path)
    api = clusters.api(ctx, cluster)
    found, warnings = await clusters.discovery.find(api, kind)
    _require_place(clusters, found, name, namespace)
    if name is not None:
        rows = [((0, "", ""), await _one(api, found, namespace or "", name, fields, now, warnings))]
    else:
        listing = await _list(clusters, api, found, namespace, label_selector, fields, now)
        rows = listing.items
        warnings += listing.warnings
    return fit_page(
        ResourceList,
        rows,
        limit=limit,
        total=len(rows),
        cursor=cursor,
        digest=query_digest(c=api.name, k=found.qualified, n=name, ns=namespace, l=label_selector, f=fields),
        extra={"cluster": api.name, "kind": found.kind, "api_version": found.api_version},
        warnings=warnings,
        source=f"kubernetes:{api.name}/{found.qualified}",
        as_of=now,
    )


def _require_place(clusters: Clusters, kind: ResourceKind, name: str | None, namespace: str | None) -> None:
    """
    Raises:
        ToolError: ``invalid_arguments`` when the namespace is missing or makes no sense, or the kind cannot be read;
            ``forbidden`` for a closed one.
    """
    verb = "list" if name is None else "get"
    if verb not in kind.verbs:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"the cluster keeps no {kind.kind} that one could {verb}",
            hint="k8s_can_i answers what access reviews do." if "review" in kind.plural else "Choose another kind.",
        )
    if namespace is not None and not kind.namespaced:
        raise outside_namespaces(kind)
    if name is not None and kind.namespaced and namespace is None:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"a {kind.kind} lives in a namespace: name it",
            hint=f'namespace="shop"; without a name, kind={kind.plural} lists those of all namespaces.',
        )
    if namespace is not None:
        clusters.require_allowed([namespace])
    if kind.qualified == "namespaces" and name is not None:
        clusters.require_allowed([name])


async def _one(
    api: ClusterApi,
    kind: ResourceKind,
    namespace: str,
    name: str,
    fields: Sequence[str] | None,
    now: datetime,
    warnings: list[str],
) -> ResourceRow:
    whole = _typed(kind, await read_object(api, kind, namespace, name))
    # A large file takes seconds to mask: on a thread, so that the call goes on sending heartbeats.
    obj = await asyncio.to_thread(clean, whole)
    row = _row(obj, now)
    if fields:
        values, empty = select(obj, fields)
        warnings += empty
        trimmed = trim(values, OBJECT_BYTES)
        row.values = trimmed.value
    else:
        trimmed = trim(obj, OBJECT_BYTES)
        row.object = trimmed.value
    largest = sorted(trimmed.left_out.items(), key=lambda item: -item[1])
    if largest:
        told = ", ".join(f"{path} ({size} bytes)" for path, size in largest[:LEFT_OUT_TOLD])
        more = f" and {len(largest) - LEFT_OUT_TOLD} more" if len(largest) > LEFT_OUT_TOLD else ""
        narrower = largest[0][0] if largest[0][0] != "$" else "a path below it"
        warnings.append(
            f"the object is too large to be shown whole; cut: {told}{more}; ask for parts: fields=[{narrower!r}]"
        )
    return row


async def _list(
    clusters: Clusters,
    api: ClusterApi,
    kind: ResourceKind,
    namespace: str | None,
    label_selector: str | None,
    fields: Sequence[str] | None,
    now: datetime,
) -> Listing[tuple[Key, ResourceRow]]:
    """A row per object, made as its page arrives: the objects themselves are not kept."""

    def keep(obj: Obj) -> tuple[Key, ResourceRow]:
        row = _row(obj, now)
        if fields:
            shown = clean(_typed(kind, obj))
            row.values = trim(select(shown, fields)[0], ROW_BYTES).value
        return (0 if _is_bad(obj) else 1, row.namespace or "", row.name), row

    if kind.namespaced:
        namespaces = [namespace] if namespace else None
        return await list_in_scope(clusters, api, kind.plural, namespaces, keep, labels=label_selector, path=kind.path)
    listing = await list_objects(api, kind.plural, None, keep, clusters.bounds, labels=label_selector, path=kind.path())
    if kind.qualified == "namespaces":
        listing.items = [item for item in listing.items if clusters.allowed(item[1].name)]
    if not listing.complete:
        listing.warnings.append(f"only the first {len(listing.items)} were looked at: narrow by label_selector")
    return listing


def _typed(kind: ResourceKind, obj: Obj) -> Obj:
    """With its type, which objects of a list do not say; what is masked depends on it."""
    rest = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind")}
    return {"apiVersion": kind.api_version, "kind": kind.kind, **rest}


def _row(obj: Obj, now: datetime) -> ResourceRow:
    return ResourceRow(
        name=str(meta(obj).get("name", "")),
        namespace=meta(obj).get("namespace"),
        state=_state(obj),
        age_s=seconds_since(meta(obj).get("creationTimestamp"), now),
        version=meta(obj).get("resourceVersion"),
    )


def _conditions(obj: Obj) -> list[Obj]:
    status = obj.get("status")
    found = status.get("conditions") if isinstance(status, dict) else None
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _state(obj: Obj) -> str | None:
    status = obj.get("status")
    if isinstance(status, dict) and isinstance(status.get("phase"), str):
        return str(status["phase"])
    for entry in _conditions(obj):
        if entry.get("type") in GOOD:
            why = f": {entry.get('reason')}" if entry.get("status") != "True" and entry.get("reason") else ""
            return mask_text(f"{entry['type']}={entry.get('status')}{why}")
    return None


def _is_bad(obj: Obj) -> bool:
    status = obj.get("status")
    if isinstance(status, dict) and status.get("phase") in BAD_PHASES:
        return True
    return any(entry.get("type") in GOOD and entry.get("status") != "True" for entry in _conditions(obj))
