"""What the platform itself leaves open of a cluster: the policy's conditions on namespaces."""

from typing import Any

import pytest

from opsbus_contracts import ErrorCode
from opsbus_contracts.identity import Grant

from .conftest import Ask, identity
from .lab import Lab

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="session")]


async def test_the_policy_opens_some_namespaces(ask: Ask, lab: Lab) -> None:
    allowed = Grant(permission="k8s:get", where={"namespace": [lab.namespace]})
    who = identity("admin", permissions=(), grants=(allowed,))
    assert (await ask("get_deployments", who=who, namespaces=[lab.namespace])).structured["items"]
    closed: list[tuple[str, dict[str, Any]]] = [
        ("get_deployments", {"namespaces": [lab.closed]}),
        ("get_pods", {"namespaces": [lab.namespace, lab.closed]}),
        ("get_pods", {}),
        ("get_resource", {"kind": "namespace", "name": lab.closed}),
        ("scale_deployment", {"namespace": lab.namespace, "name": "looked-at", "replicas": 1, "reason": "a try"}),
        ("drain_node", {"node": lab.node, "reason": "a try"}),
    ]
    for tool, arguments in closed:
        error = (await ask(tool, who=who, **arguments)).error
        assert error.code is ErrorCode.FORBIDDEN, tool
        assert "permission" in error.message


async def test_the_policy_closes_some(ask: Ask, lab: Lab) -> None:
    who = identity("admin", grants=(Grant(effect="deny", permission="k8s:*", where={"namespace": [lab.closed]}),))
    assert (await ask("get_deployments", who=who, namespaces=[lab.namespace])).structured["items"]
    for arguments in ({"namespaces": [lab.closed]}, {}):
        assert (await ask("get_pods", who=who, **arguments)).error.code is ErrorCode.FORBIDDEN
