"""What a run makes in a cluster before its tests, and how all of it goes again: also what an earlier run left.

Everything that is not in the run's own namespaces (cluster roles, their bindings, a node) has the run's suffix in its
name and the label. Objects without the label are never changed and never deleted.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from .admin import Admin, admin_of, at

Obj = dict[str, Any]

LABEL = "opsbus.dev/test-cluster"
"""Its value is the suffix of the run."""
NODE_LABEL = "opsbus.dev/test-node"
"""On pods that were put on a node which no kubelet serves: only the API server can end them."""

SHIPPED = Path(__file__).resolve().parents[2] / "k8s"
CALLERS, WORKER = SHIPPED / "callers", SHIPPED / "base" / "k8s-ops.yaml"
ACCOUNT = "opsbus-k8s-ops"
RBAC = "rbac.authorization.k8s.io/v1"
OLD_S = 3600
CONTROLLERS_S = float(os.environ.get("OPSBUS_TEST_CONTROLLERS_S") or 5)
"""A controller that has not looked at a new deployment after this long is taken not to run. Seconds."""
GONE_S = 20.0
"""A namespace controller gets this long for a namespace before its content is deleted here. Seconds."""
CLUSTER_WIDE = ((RBAC, "clusterrolebindings"), (RBAC, "clusterroles"), ("v1", "nodes"))


@dataclass(frozen=True)
class Lab:
    """A cluster with what the tests need in it, and what was seen of it."""

    kubeconfig: str
    context: str
    suffix: str
    rbac: bool
    """Whether the cluster refuses strangers."""
    controllers: bool
    """Whether somebody acts on deployments."""
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def own_account(self) -> bool:
        """Whether the worker has an account of its own, with the rights that are shipped for it."""
        return bool(self.settings["kubeconfig"] != self.kubeconfig)

    @property
    def namespace(self) -> str:
        """Operators work here."""
        return f"opsbus-test-{self.suffix}"

    @property
    def closed(self) -> str:
        """Operators may only look here."""
        return f"opsbus-test-{self.suffix}-closed"

    @property
    def node(self) -> str:
        """The name for a node of the run's own."""
        return f"opsbus-test-{self.suffix}"


def labels(suffix: str) -> dict[str, str]:
    """On everything that is made."""
    return {LABEL: suffix}


async def make(kubeconfig: str, context: str) -> Lab:
    """Makes it all, and looks at what the cluster does. What a failure leaves is taken away."""
    suffix = secrets.token_hex(3)
    async with admin_of(kubeconfig, context) as admin:
        await sweep(admin, OLD_S)
        try:
            return await _make(admin, kubeconfig, context, suffix)
        except BaseException:
            await remove(admin, suffix)
            raise


async def _make(admin: Admin, kubeconfig: str, context: str, suffix: str) -> Lab:
    prefix = f"opsbus-test-{suffix}:"
    settings = {
        "kubeconfig": kubeconfig,
        "contexts": [context],
        "impersonate_group_prefix": prefix,
        "page_size": 25,
        "watch": False,
    }
    lab = Lab(kubeconfig, context, suffix, rbac=True, controllers=False, settings=settings)
    for name in (lab.namespace, lab.closed):
        await admin.create(at("v1", "namespaces"), {"metadata": {"name": name, "labels": labels(suffix)}})
        # Without a controller nobody makes the account that every pod needs.
        account = {"metadata": {"name": "default"}, "automountServiceAccountToken": False}
        await admin.create(at("v1", "serviceaccounts", name), account, there=True)
    await _grant(admin, lab, prefix)
    if own := await _workers_own(admin, lab):
        settings["kubeconfig"] = own
    viewer = admin.acting_as("viewer@shop.example", f"{prefix}viewer")
    assert await admin.until(lambda: viewer.may("list", "pods", lab.namespace)), "the roles have no effect"
    rbac = not await admin.acting_as("stranger@shop.example").may("delete", "nodes")
    return Lab(kubeconfig, context, suffix, rbac=rbac, controllers=await _acted_on(admin, lab), settings=settings)


async def _grant(admin: Admin, lab: Lab, prefix: str) -> None:
    """The roles that are shipped for callers, with the run's suffix, bound to groups that only its callers have."""
    for name in yaml.safe_load((CALLERS / "kustomization.yaml").read_text())["resources"]:
        for obj in yaml.safe_load_all((CALLERS / name).read_text()):
            await _create_access(admin, lab, obj, prefix)
    secrets_read = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]
    auditor: Obj = {"metadata": {"name": "auditor"}, "rules": secrets_read}
    await admin.create(at(RBAC, "roles", lab.namespace), auditor)
    bound: Obj = {
        "metadata": {"name": "auditor"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "auditor"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": f"{prefix}auditor"}],
    }
    await admin.create(at(RBAC, "rolebindings", lab.namespace), bound)


async def _create_access(admin: Admin, lab: Lab, obj: Obj, prefix: str) -> None:
    plural = {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "RoleBinding": "rolebindings"}
    namespace = lab.namespace if obj["kind"] == "RoleBinding" else ""
    obj["metadata"] = {"name": f"{obj['metadata']['name']}-{lab.suffix}", "labels": labels(lab.suffix)}
    if "roleRef" in obj:
        obj["roleRef"]["name"] += f"-{lab.suffix}"
    for subject in obj.get("subjects") or []:
        if subject["kind"] == "Group":
            subject["name"] = prefix + subject["name"].removeprefix("opsbus:")
    await admin.create(at(RBAC, plural[obj["kind"]], namespace), obj)


async def _acted_on(admin: Admin, lab: Lab) -> bool:
    """Whether somebody looks at a new deployment."""
    from .objects import deployment

    path = at("apps/v1", "deployments", lab.namespace)
    await admin.create(path, deployment("looked-at", replicas=0))

    async def seen() -> bool:
        found = await admin.read(f"{path}/looked-at")
        return bool((found.get("status") or {}).get("observedGeneration"))

    return await admin.until(seen, CONTROLLERS_S)


async def _workers_own(admin: Admin, lab: Lab) -> str | None:
    """A kubeconfig by which the worker comes as its own account, with the rights that are shipped for it.

    None where the cluster hands out no tokens for service accounts: then it comes as the administrator.
    """
    for obj in yaml.safe_load_all(WORKER.read_text()):
        if obj["kind"] == "ServiceAccount":
            await admin.create(at("v1", "serviceaccounts", lab.namespace), {"metadata": {"name": ACCOUNT}})
        elif obj["kind"].startswith("ClusterRole"):
            for subject in obj.get("subjects") or []:
                subject["namespace"] = lab.namespace
            await _create_access(admin, lab, obj, "")
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    code, said = await admin.send("POST", at("v1", "serviceaccounts", lab.namespace, ACCOUNT, "token"), asked)
    token = (said.get("status") or {}).get("token") if code == 201 else None
    if not token:
        return None
    account = admin.acting_as(f"system:serviceaccount:{lab.namespace}:{ACCOUNT}")
    if not await admin.until(lambda: account.may("impersonate", "users")):
        return None
    return write_kubeconfig(lab, token)


def folder_of(suffix: str) -> Path:
    """Where the worker's kubeconfig of a run is."""
    return Path(tempfile.gettempdir()) / f"opsbus-test-{suffix}"


def write_kubeconfig(lab: Lab, token: str) -> str:
    """The same cluster, with a token."""
    clusters, contexts = {}, {}
    for path in map(Path, lab.kubeconfig.split(os.pathsep)):
        document = yaml.safe_load(path.read_text()) or {}
        contexts |= {entry["name"]: entry["context"] for entry in document.get("contexts") or []}
        for entry in document.get("clusters") or []:
            if authority := entry["cluster"].get("certificate-authority"):
                entry["cluster"]["certificate-authority"] = str(path.parent / authority)
            clusters.setdefault(entry["name"], entry["cluster"])
    cluster = contexts[lab.context]["cluster"]
    written = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": lab.context,
        "clusters": [{"name": cluster, "cluster": clusters[cluster]}],
        "contexts": [{"name": lab.context, "context": {"cluster": cluster, "user": ACCOUNT}}],
        "users": [{"name": ACCOUNT, "user": {"token": token}}],
    }
    folder = folder_of(lab.suffix)
    folder.mkdir(mode=0o700)  # nobody else made it
    (folder / "kubeconfig").touch(0o600)
    (folder / "kubeconfig").write_text(yaml.safe_dump(written))
    return str(folder / "kubeconfig")


async def sweep(admin: Admin, older_than_s: float) -> list[str]:
    """Takes away what runs left that began so long ago; their suffixes."""
    found: dict[str, float] = {}
    now = datetime.now(UTC)
    for version, plural in (*CLUSTER_WIDE, ("v1", "namespaces")):
        for obj in (await admin.get(at(version, plural), ("labelSelector", LABEL)) or {}).get("items") or []:
            made = datetime.fromisoformat(obj["metadata"]["creationTimestamp"])
            suffix, age_s = obj["metadata"]["labels"][LABEL], (now - made).total_seconds()
            found[suffix] = max(age_s, found.get(suffix, 0.0))
    old = sorted(suffix for suffix, age_s in found.items() if age_s >= older_than_s)
    for suffix in old:
        await remove(admin, suffix)
    return old


async def remove(admin: Admin, suffix: str, *, controllers: bool = True) -> None:
    """Takes away everything of one run.

    Args:
        controllers: Whether some may run; where none does, nobody is waited for.

    Raises:
        AssertionError: something stays.
    """
    shutil.rmtree(folder_of(suffix), ignore_errors=True)
    chosen = ("labelSelector", f"{LABEL}={suffix}")
    spaces = (await admin.get(at("v1", "namespaces"), chosen) or {}).get("items") or []
    names = [obj["metadata"]["name"] for obj in spaces]
    for name in names:
        # Their node's kubelet would end them, and they have none.
        await admin.delete(at("v1", "pods", name), ("labelSelector", NODE_LABEL), grace_s=0)
        await admin.delete(at("v1", "namespaces") + f"/{name}")
    for version, plural in CLUSTER_WIDE:
        for obj in (await admin.get(at(version, plural), chosen) or {}).get("items") or []:
            await admin.delete(f"{at(version, plural)}/{obj['metadata']['name']}")
    await asyncio.gather(*(_gone(admin, name, controllers) for name in names))


async def _gone(admin: Admin, namespace: str, controllers: bool) -> None:
    """A namespace controller empties and ends it. Where none runs, that is done here."""
    path = f"{at('v1', 'namespaces')}/{namespace}"

    async def gone() -> bool:
        return await admin.get(path) is None

    async def noticed() -> bool:
        """A controller that works on it says so in the conditions; a quick one is done at once."""
        found = await admin.get(path)
        return found is None or bool((found.get("status") or {}).get("conditions"))

    if controllers and await admin.until(noticed, CONTROLLERS_S) and await admin.until(gone, GONE_S * 6):
        return
    left = await _empty(admin, namespace)
    assert not left, f"namespace {namespace} still has {left}"
    found = await admin.get(path)
    if found is not None:
        found["spec"]["finalizers"] = []
        code, said = await admin.send("PUT", f"{path}/finalize", found)
        assert code in (200, 404, 409), said
    assert await admin.until(gone, GONE_S), f"namespace {namespace} stays"


async def _empty(admin: Admin, namespace: str) -> list[str]:
    """Deletes all that the cluster keeps in a namespace; kinds of which something is left."""
    kinds = await _kinds(admin)
    for path in kinds:
        await admin.delete(path.format(namespace), grace_s=0)
    left = []
    for path in kinds:
        listed = await admin.get(path.format(namespace))
        if (listed or {}).get("items"):
            left.append(path.format(namespace))
    return left


async def _kinds(admin: Admin) -> list[str]:
    """Where lists of namespaces are that can be deleted, workloads before what they make."""
    groups = (await admin.read("/apis")).get("groups") or []
    roots = [f"/apis/{group['preferredVersion']['groupVersion']}" for group in groups] + ["/api/v1"]
    paths = []
    for root in sorted(roots, key=lambda root: root != "/apis/apps/v1"):
        with contextlib.suppress(AssertionError):  # an aggregated API that is down keeps nothing of ours
            entries = (await admin.get(root) or {}).get("resources") or []
            named = [entry for entry in entries if entry.get("namespaced")]
            deletable = [entry for entry in named if {"list", "deletecollection"} <= set(entry.get("verbs") or ())]
            paths += [f"{root}/namespaces/{{}}/{entry['name']}" for entry in deletable]
    return paths


def make_now(kubeconfig: str, context: str) -> Lab:
    """As ``make``, for who has no event loop."""
    return asyncio.run(make(kubeconfig, context))


def remove_now(lab: Lab) -> None:
    """As ``remove``."""

    async def run() -> None:
        async with admin_of(lab.kubeconfig, lab.context) as admin:
            await remove(admin, lab.suffix, controllers=lab.controllers)

    asyncio.run(run())
