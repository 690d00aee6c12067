"""One cluster's API as one caller: bounded requests through the official client.

What the objects mean is not known here.

Paths are the API's own; the client adds address, TLS, credentials and proxies. Answers stay plain JSON: the
generated models refuse objects that a newer server has more to say about.
"""

import copy
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
from multidict import CIMultiDict
from opentelemetry.propagate import inject

from opsbus import ErrorCode, ToolError
from opsbus.guard import BackendShutError, Guard
from opsbus_k8s_ops.faults import Attempt, is_outage, is_passing, not_asked, refused, unreachable
from opsbus_k8s_ops.kube_light import ApiClient

Obj = dict[str, Any]
Query = Sequence[tuple[str, str | int]]

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"

NAMES_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
"""Accept: lists without spec and status, from servers that can."""

VERSION = "/version"
"""The one answer that is no object."""
_OF_OBJECTS = frozenset({"kind", "metadata", "items"})

NO_CONTENT = 204

_CHUNK_BYTES = 1 << 16

GROUPS = {
    "namespaces": "/api/v1",
    "nodes": "/api/v1",
    "pods": "/api/v1",
    "events": "/api/v1",
    "deployments": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "daemonsets": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "controllerrevisions": "/apis/apps/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
}
"""Resource to the API group and version it is read from, where the cluster is not asked which it serves."""


def path_of(resource: str, namespace: str | None = None, *rest: str, root: str = "") -> str:
    """``/apis/apps/v1/namespaces/shop/deployments/checkout/scale``; every part is quoted.

    Args:
        root: The API group and version, in place of the one of GROUPS.
    """
    parts = ["namespaces", namespace] if namespace else []
    return "/".join([root or GROUPS[resource], *(quote(part, safe="") for part in (*parts, resource, *rest))])


class Negotiation(Protocol):
    """Which versions of an API a cluster serves."""

    async def roots(self, api: "ClusterApi", resource: str) -> list[str]:
        """The API groups and versions to read a resource from, the best first; never none."""


@dataclass(frozen=True)
class Impersonation:
    """Whom the cluster shall take us for."""

    user: str
    groups: tuple[str, ...] = ()

    def describe(self) -> str:
        """For errors: ``user ann (groups opsbus:viewer)``."""
        return f"user {self.user}" + (f" (groups {', '.join(self.groups)})" if self.groups else "")


class CallerClient(ApiClient):
    """The official client, acting as someone. One base client per cluster; ``acting_as`` shares its connections, and
    the guard in front of its cluster."""

    impersonation: Impersonation | None = None

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.guard = Guard(is_outage, is_passing)

    def acting_as(self, impersonation: Impersonation | None) -> "CallerClient":
        """The same client for one caller."""
        client = copy.copy(self)
        client.impersonation = impersonation
        return client

    def with_own_guard(self) -> "CallerClient":
        """The same client, whose failures shut out nobody else."""
        client = copy.copy(self)
        client.guard = Guard(is_outage, is_passing)
        return client

    async def call_api(
        self, method: str, url: str, header_params: Mapping[str, str] | None = None, *rest: Any, **more: Any
    ) -> Any:
        """As the library's, plus the impersonation headers.

        The group's repeats, which the library's dict cannot say.
        """
        headers = CIMultiDict(header_params or {})
        if self.impersonation:
            headers["Impersonate-User"] = self.impersonation.user
            for group in self.impersonation.groups:
                headers.add("Impersonate-Group", group)
        return await super().call_api(method, url, headers, *rest, **more)


@dataclass(frozen=True)
class ClusterApi:
    """Requests to one cluster. ``timeout_s`` is per request, ``bytes_max`` per answer.

    ``names`` tells whether the caller may hear of a namespace: errors name what is near.
    """

    name: str
    client: CallerClient
    timeout_s: float
    bytes_max: int
    negotiation: Negotiation | None = None
    names: Callable[[str], bool] = lambda _: True

    async def roots(self, resource: str) -> list[str]:
        """The API groups and versions to read a resource from, the best first."""
        return await self.negotiation.roots(self, resource) if self.negotiation else [GROUPS[resource]]

    def within(self, seconds: float) -> "ClusterApi":
        """The same API with a timeout of at most this: what is left of the call's deadline."""
        return replace(self, timeout_s=max(0.1, min(self.timeout_s, seconds)))

    def patient(self, seconds: float) -> "ClusterApi":
        """The same API with a timeout of this, for what is long: logs."""
        return replace(self, timeout_s=max(0.1, seconds))

    async def get(self, path: str, doing: str, query: Query = (), accept: str = JSON) -> Obj:
        """One object or one page of a list. ``doing`` ends the sentence "could not ..." of an error.

        Raises:
            ToolError: the cluster refused, is unreachable, or answers more than ``bytes_max``.
        """
        return await self._json("GET", path, doing, query, accept=accept)

    async def patch(self, path: str, body: Obj, doing: str, *, dry_run: bool, field_manager: str = "opsbus") -> Obj:
        """A JSON merge patch; ``dry_run`` has the server check everything and store nothing.

        Raises:
            ToolError: as ``get``; when the connection breaks on the way of a real patch, ``outcome_unknown``.
        """
        query: list[tuple[str, str | int]] = [("fieldManager", field_manager)]
        if dry_run:
            query.append(("dryRun", "All"))
        return await self._json("PATCH", path, doing, query, body=body, writes=not dry_run)

    async def post(self, path: str, body: Obj, doing: str, *, dry_run: bool) -> Obj:
        """What is asked for by creating an object: an eviction. Sent once, never repeated.

        Raises:
            ToolError: as ``patch``.
        """
        query = [("dryRun", "All")] if dry_run else []
        return await self._json("POST", path, doing, query, body=body, writes=not dry_run)

    async def review(self, path: str, body: Obj, doing: str) -> Obj:
        """A question put as an object that is answered and never stored: an access review.

        Raises:
            ToolError: as ``get``.
        """
        return await self._json("POST", path, doing, (), body=body)

    @asynccontextmanager
    async def stream(
        self, path: str, doing: str, query: Query = (), *, silence_s: float | None = None
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """The raw body of an answer, as it comes; leaving the block drops the rest.

        Args:
            silence_s: For what goes on for long: no bound in all, but so long without a byte. Seconds.

        Raises:
            ToolError: as ``get``; ``not_found`` where the server has no node to ask for a log.
        """
        attempt = self._attempt(doing)
        limit = aiohttp.ClientTimeout(total=self.timeout_s)
        if silence_s is not None:
            limit = aiohttp.ClientTimeout(total=None, connect=self.timeout_s, sock_read=silence_s)
        try:
            response = await self.client.guard.once(
                lambda: self._open("GET", path, attempt, query, accept="*/*", limit=limit)
            )
        except BackendShutError as shut:
            raise not_asked(shut, attempt) from None
        if response.status == NO_CONTENT:
            response.close()
            raise ToolError(
                ErrorCode.NOT_FOUND,
                f"cluster {self.name}: could not {doing}: the pod is on no node yet, so nothing of it has run",
                hint="k8s_get_pods says why it is pending.",
            )
        try:
            yield response.content
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(error, attempt) from error
        finally:
            response.close()

    async def _json(
        self,
        method: str,
        path: str,
        doing: str,
        query: Query,
        *,
        body: Obj | None = None,
        accept: str = JSON,
        writes: bool = False,
    ) -> Obj:
        attempt = self._attempt(doing, writes)
        guard = self.client.guard
        through = guard.once if writes else guard.read
        try:
            return await through(lambda: self._asked(method, path, attempt, query, body=body, accept=accept))
        except BackendShutError as shut:
            raise not_asked(shut, attempt) from None

    async def _asked(
        self, method: str, path: str, attempt: Attempt, query: Query, *, body: Obj | None, accept: str
    ) -> Obj:
        response = await self._open(method, path, attempt, query, body=body, accept=accept)
        try:
            raw = await self._read(response, attempt)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(error, attempt) from error
        finally:
            response.release()
        try:
            parsed = json.loads(raw)
        except ValueError:
            parsed = None
        # A proxy, or another system, may answer with JSON too: taken for a list it would be an empty one.
        if not isinstance(parsed, dict) or not (_OF_OBJECTS & parsed.keys() or path == VERSION):
            raise ToolError(
                ErrorCode.BACKEND_ERROR,
                f"cluster {self.name}: could not {attempt.doing}: the answer is no Kubernetes object",
                hint="Something else than a Kubernetes API server may answer at this address.",
            )
        return parsed

    async def _open(
        self,
        method: str,
        path: str,
        attempt: Attempt,
        query: Query,
        *,
        body: Obj | None = None,
        accept: str = JSON,
        limit: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": accept, "Content-Type": MERGE_PATCH if method == "PATCH" else JSON}
        inject(headers)  # the call's trace goes on in the API server
        try:
            request = await self.client.param_serialize(
                method, path, query_params=list(query), header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            limit = limit or aiohttp.ClientTimeout(total=self.timeout_s)
            answer = await self.client.call_api(*request, _request_timeout=limit)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise unreachable(error, attempt) from error
        response: aiohttp.ClientResponse = answer.response
        if response.status < 400:
            return response
        try:
            raw = await response.content.read(_CHUNK_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise unreachable(error, attempt) from error
        finally:
            response.close()
        raise refused(response.status, raw, attempt, response.headers.get("Retry-After"))

    async def _read(self, response: aiohttp.ClientResponse, attempt: Attempt) -> bytes:
        chunks, size = [], 0
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            size += len(chunk)
            if size > self.bytes_max:
                response.close()
                raise ToolError(
                    ErrorCode.RESULT_TOO_LARGE,
                    f"cluster {self.name}: the answer to {attempt.doing} is over {self.bytes_max} bytes",
                    hint="Narrow it by namespace, label or field selector; or lower the worker's page_size.",
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _attempt(self, doing: str, writes: bool = False) -> Attempt:
        caller = self.client.impersonation.describe() if self.client.impersonation else ""
        return Attempt(self.name, doing, caller, writes)
