"""The cluster as the kubeconfig's own account: what the tests make, look at and take away. Nothing is repeated."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import yaml

from opsbus_k8s_ops.api import JSON, MERGE_PATCH, CallerClient, Impersonation
from opsbus_k8s_ops.kubeconfig import load_clusters
from opsbus_k8s_ops.settings import K8sSettings

Obj = dict[str, Any]

KUBECONFIG = "OPSBUS_TEST_KUBECONFIG"
PATIENCE_S = 60.0
"""How long what a cluster does by itself may take."""


def at(version: str, plural: str, namespace: str = "", *rest: str) -> str:
    """``at("apps/v1", "deployments", "shop", "web", "scale")``."""
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return "/".join([root, *(["namespaces", namespace] if namespace else []), plural, *rest])


def named_kubeconfig() -> str:
    """Where the cluster is; the test is skipped where none is named."""
    path = os.environ.get(KUBECONFIG, "")
    if not path:
        pytest.skip(f"{KUBECONFIG} names no cluster: docs/test-cluster.md")
    return path


def current_context(path: str) -> str:
    """``OPSBUS_TEST_CONTEXT``, or the kubeconfig's current one: the other contexts are not touched."""
    if named := os.environ.get("OPSBUS_TEST_CONTEXT"):
        return named
    for part in path.split(os.pathsep):
        with open(part) as file:
            if found := (yaml.safe_load(file) or {}).get("current-context"):
                return str(found)
    raise ValueError(f"{path} has no current-context: set OPSBUS_TEST_CONTEXT")


class Admin:
    """Plain requests; an answer is its code and its object."""

    def __init__(self, client: CallerClient) -> None:
        self._client = client

    def acting_as(self, user: str, *groups: str) -> "Admin":
        """The same cluster as somebody else."""
        return Admin(self._client.acting_as(Impersonation(user, groups)))

    async def send(
        self, method: str, path: str, body: Any = None, content: str = JSON, query: Sequence[tuple[str, str]] = ()
    ) -> tuple[int, Obj]:
        """Any request at all."""
        headers = {"Accept": JSON, "Content-Type": content}
        request = await self._client.param_serialize(
            method, path, query_params=list(query), header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        answer = await self._client.call_api(*request, _request_timeout=aiohttp.ClientTimeout(total=30))
        raw = await answer.response.read()
        return answer.response.status, json.loads(raw) if raw.strip().startswith(b"{") else {}

    async def get(self, path: str, *query: tuple[str, str]) -> Obj | None:
        """An object or a list; None where there is none."""
        code, found = await self.send("GET", path, query=query)
        assert code in (200, 404), found
        return found if code == 200 else None

    async def read(self, path: str) -> Obj:
        """An object that is there."""
        found = await self.get(path)
        assert found is not None, path
        return found

    async def create(self, path: str, obj: Obj, *, there: bool = False) -> Obj:
        """A new object; with ``there`` it may be there already."""
        code, made = await self.send("POST", path, obj)
        assert code in (200, 201) or (there and code == 409), made
        return made

    async def patch(self, path: str, change: Obj) -> Obj:
        """A merge patch."""
        code, made = await self.send("PATCH", path, change, MERGE_PATCH)
        assert code == 200, made
        return made

    async def delete(self, path: str, *query: tuple[str, str], grace_s: int | None = None) -> None:
        """An object, or all of a list; nothing to delete is well."""
        options: Obj = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        code, said = await self.send("DELETE", path, options, query=query)
        assert code in (200, 202, 404, 409), said

    async def may(self, verb: str, resource: str, namespace: str = "", group: str = "") -> bool:
        """Whether the account, or whoever it acts as, may do something."""
        wanted = {"verb": verb, "resource": resource, "namespace": namespace, "group": group}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        path = at("authorization.k8s.io/v1", "selfsubjectaccessreviews")
        made = await self.create(path, review | {"spec": {"resourceAttributes": wanted}})
        return bool((made.get("status") or {}).get("allowed"))

    async def until(self, look: Callable[[], Awaitable[bool]], wait_s: float = PATIENCE_S) -> bool:
        """Whether it came to be so in time."""
        ends = time.monotonic() + wait_s
        while not await look():
            if time.monotonic() > ends:
                return False
            await asyncio.sleep(0.2)
        return True


@asynccontextmanager
async def admin_of(path: str, context: str) -> AsyncIterator[Admin]:
    """Reaches the cluster until the block ends."""
    configs, _ = await load_clusters(K8sSettings(kubeconfig=path, contexts=[context]))
    client = CallerClient(configs[context].configuration)
    try:
        yield Admin(client)
    finally:
        await client.close()
