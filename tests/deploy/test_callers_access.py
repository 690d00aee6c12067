"""The roles shipped for callers, put before an API server's rules: what each may, and what nobody may."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from opsbus_k8s_ops.api import GROUPS
from opsbus_sandbox.clock import Clock
from opsbus_sandbox.kube.rbac import Authorizer, Question
from opsbus_sandbox.kube.store import ObjectStore

CALLERS = Path(__file__).resolve().parents[2] / "k8s" / "callers"
PLURALS = {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings", "RoleBinding": "rolebindings"}


def group_of(path: str) -> str:
    """``apps`` of ``/apis/apps/v1``."""
    return path.split("/")[2] if path.startswith("/apis/") else ""


READS = [
    Question(verb, group_of(path), resource, "", "shop")
    for resource, path in GROUPS.items()
    for verb in ("get", "list")
]
READS += [Question("get", "", "pods/log", "", "shop"), Question("list", "", "nodes"), Question("get", "", "nodes")]
WRITES = [Question("patch", "apps", part, "", "staging") for part in ("deployments", "deployments/scale")]
NODES = [Question("patch", "", "nodes"), Question("create", "", "pods/eviction", "", "shop")]
NEVER = [
    Question("get", "", "secrets", "", "shop"),
    Question("list", "", "secrets"),
    Question("delete", "", "pods", "", "staging"),
    Question("create", "", "pods/exec", "", "staging"),
    Question("delete", "apps", "deployments", "", "staging"),
    Question("create", "apps", "deployments", "", "staging"),
    Question("patch", "rbac.authorization.k8s.io", "clusterroles"),
    Question("impersonate", "", "users"),
    Question("get", "", "pods/eviction", "", "shop"),
]
ELSEWHERE = [Question("patch", "apps", "deployments", "", "shop"), Question("patch", "apps", "deployments")]


@pytest.fixture(scope="module")
def access() -> Authorizer:
    store = ObjectStore(Clock())
    for name in yaml.safe_load((CALLERS / "kustomization.yaml").read_text())["resources"]:
        for document in yaml.safe_load_all((CALLERS / name).read_text()):
            store.create(PLURALS[document["kind"]], document)
    return Authorizer(store)


def allowed(access: Authorizer, role: str, questions: list[Question]) -> list[Question]:
    return [one for one in questions if access.allows("ada@shop.example", (f"opsbus:{role}",), one)]


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        ("viewer", READS, [*WRITES, *NODES, *ELSEWHERE, *NEVER]),
        ("operator", [*READS, *WRITES], [*NODES, *ELSEWHERE, *NEVER]),
        ("admin", [*READS, *WRITES, *NODES, *ELSEWHERE], NEVER),
        ("nobody", [], [*READS, *WRITES, *NODES, *ELSEWHERE, *NEVER]),
    ],
)
def test_each_role_may_what_its_tools_need_and_no_more(access: Authorizer, role: str, may: Any, may_not: Any) -> None:
    assert allowed(access, role, may) == may
    assert allowed(access, role, may_not) == []
