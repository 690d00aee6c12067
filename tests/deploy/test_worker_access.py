"""The rights shipped for the k8s worker itself: to act as its callers, to watch what it tells of, and no more."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from opsbus_k8s_ops.api import GROUPS
from opsbus_k8s_ops.watching import NAMESPACED
from opsbus_sandbox.clock import Clock
from opsbus_sandbox.kube.rbac import Authorizer, Question
from opsbus_sandbox.kube.store import ObjectStore

SHIPPED = Path(__file__).resolve().parents[2] / "k8s" / "base" / "k8s-ops.yaml"
PLURALS = {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings"}
ACCOUNT = "system:serviceaccount:opsbus:opsbus-k8s-ops"
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate")
RESOURCES = (
    *GROUPS, "configmaps", "secrets", "serviceaccounts", "users", "groups", "uids", "pods/log", "pods/exec",
    "pods/eviction", "deployments/scale",
)  # fmt: skip


def group_of(resource: str) -> str:
    """``apps`` of ``/apis/apps/v1``."""
    path = GROUPS.get(resource.partition("/")[0], "")
    return path.split("/")[2] if path.startswith("/apis/") else ""


@pytest.fixture(scope="module")
def access() -> Authorizer:
    store = ObjectStore(Clock())
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(SHIPPED.read_text()))
    for document in documents:
        if document["kind"] in PLURALS:
            store.create(PLURALS[document["kind"]], document)
    return Authorizer(store)


def test_the_worker_may_what_its_watches_and_callers_need_and_no_more(access: Authorizer) -> None:
    may = {
        (verb, resource)
        for verb in VERBS
        for resource in RESOURCES
        if access.allows(ACCOUNT, (), Question(verb, group_of(resource), resource, "", "shop"))
    }
    watches = {(verb, resource) for verb in ("list", "watch") for resource in (*NAMESPACED, "nodes")}
    assert may == watches | {
        ("get", "namespaces"), ("list", "namespaces"), ("impersonate", "users"), ("impersonate", "groups"),
    }  # fmt: skip
    assert not access.allows("system:serviceaccount:other:opsbus-k8s-ops", (), Question("list", "", "pods"))
