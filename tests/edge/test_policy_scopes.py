"""Policies with conditions, rules of tools, reload: read, judged, and through a running edge."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from opsbus import Context, Worker
from opsbus.settings import SettingsError
from opsbus.testing.plugin import RunWorker
from opsbus_edge.gates.policy import Approval, load_policy, parse_policy
from opsbus_edge.gates.policy.judge import judge

POLICY = """\
environments:
  staging:
    namespace: ["*-staging"]
  production:
    - namespace: [shop, "prod-*"]
      cluster: [eu]
    - environment: [production]
roles:
  reader:
    allow: ["*:get"]
  operator:
    inherits: [reader]
    allow:
      - permission: [k8s:scale, k8s:restart]
        where: {environment: staging, cluster: [eu, us]}
      - permission: demo:write
        where:
          namespace: [a, b]
  careful:
    inherits: [admin]
    deny:
      - {permission: "k8s:*", where: {namespace: "kube-*"}}
  keeper:
    allow:
      - {permission: "k8s:scale", where: {environment: production}}
  admin:
    allow: ["*"]
tools:
  k8s_drain_*:
    requires: [k8s:drain, platform:critical]
    approval: two_person
  demo_quiet:
    approval: none
"""
HERE = "policy.yaml"
PROD = "environments: {prod: {namespace: [a]}}\nroles:\n  a:\n    "
TWICE = "environments: {p: [{namespace: [a]}, {cluster: [b]}]}\nroles:\n  a:\n    "


def judged(role: str, needed: str, touches: dict[str, tuple[str, ...]], tool: str = "k8s_scale") -> Any:
    policy = parse_policy(POLICY, HERE)
    return judge(policy, (role,), policy.grant((role,)), needed, lambda: touches, tool)


@pytest.mark.parametrize(
    ("role", "needed", "touches", "rule"),
    [
        (
            "operator",
            "k8s:scale",
            {"namespace": ("x-staging",), "cluster": ("eu",)},
            f"{HERE}:14 operator allow",
        ),
        ("operator", "k8s:restart", {"namespace": ("x-staging",), "cluster": ("us",)}, f"{HERE}:14 operator allow"),
        ("operator", "k8s:scale", {"namespace": ("x-staging",)}, ""),
        ("operator", "k8s:scale", {"namespace": ("x-staging",), "cluster": ("lab",)}, ""),
        ("operator", "k8s:scale", {"namespace": ("shop",), "cluster": ("eu",)}, ""),
        ("operator", "k8s:delete", {"namespace": ("x-staging",), "cluster": ("eu",)}, ""),
        ("operator", "k8s:get", {}, f"{HERE}:10 reader allow *:get"),
        ("careful", "k8s:scale", {"namespace": ("shop",)}, f"{HERE}:27 admin allow *"),
        ("careful", "cmdb:write", {}, f"{HERE}:27 admin allow *"),
        ("keeper", "k8s:scale", {"namespace": ("shop",), "cluster": ("eu",)}, f"{HERE}:25 keeper allow"),
        ("keeper", "k8s:scale", {"environment": ("production",)}, f"{HERE}:25 keeper allow"),
        ("keeper", "k8s:scale", {"namespace": ("shop",), "cluster": ("us",)}, ""),
        ("keeper", "k8s:scale", {"namespace": ("shop",)}, ""),
        ("nobody", "k8s:get", {}, ""),
    ],
)
def test_judgements_and_their_lines(role: str, needed: str, touches: Any, rule: str) -> None:
    found = judged(role, needed, touches)
    assert found.permitted is bool(rule)
    assert found.rule.startswith(rule or "default deny")


def test_a_denial_under_a_condition_names_its_line() -> None:
    for touches in ({"namespace": ("kube-system",)}, {"namespace": ("shop", "kube-system")}, {}):
        found = judged("careful", "k8s:scale", touches)
        assert not found.permitted
        assert found.rule == f"{HERE}:22 careful deny k8s:* where namespace in kube-*"


def test_rules_of_tools() -> None:
    assert judged("operator", "k8s:get", {}, "k8s_drain_node").needed == "k8s:drain"
    asked = judged("admin", "k8s:drain", {}, "k8s_drain_node")
    assert (asked.permitted, asked.approval) == (True, Approval.TWO_PERSON)
    assert asked.rule == f"{HERE}:30 approval of k8s_drain_*"
    assert judged("admin", "demo:write", {}, "demo_quiet").approval is Approval.NONE
    assert judged("admin", "demo:write", {}, "demo_other").approval is Approval.CONFIRM


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("roles:\n  a:\n    alow: []", 3, "did you mean 'allow'"),
        ("rolls: {}", 1, "did you mean 'roles'"),
        ("roles:\n  a:\n    allow: [{permission: 'k8s:*'}]", 3, "has permission and where"),
        ("roles:\n  a:\n    allow: [{permission: 'k8s:*', where: {}}]", 3, "is empty"),
        ("roles:\n  a:\n    allow: [{permission: 'k8s:*', where: {namespaces: x}}]", 3, "did you mean 'namespace'"),
        ("roles:\n  a:\n    allow: [{permission: 'k8s:*', where: {namespace: []}}]", 3, "is empty"),
        ("roles:\n  a:\n    allow: [{permission: 'k8s:*', where: {namespace: {a: b}}}]", 3, "name or glob"),
        ("roles:\n  a:\n    allow: [{permission: 'k8s:*', where: {environment: prod}}]", 3, "define it"),
        (PROD + "allow: [{permission: x, where: {environment: prd}}]", 4, "did you mean 'prod'"),
        (PROD + "allow: [{permission: x, where: {environment: prod, namespace: b}}]", 4, "name one of the two"),
        (TWICE + "deny: [{permission: x, where: {environment: p}}]", 4, "one definition"),
        ("environments: {p: {}}\nroles: {a: {}}", 1, "is empty"),
        ("environments: {p: []}\nroles: {a: {}}", 1, "is empty"),
        ("roles: {a: {}}\ntools:\n  x:\n    approval: maybe", 4, "one of none, confirm, two_person"),
        ("roles: {a: {}}\ntools:\n  x:\n    requires: ['k8s:*']", 4, "permission without *"),
        ("roles: {a: {}}\ntools:\n  'x y': {}", 3, "is no name in tools"),
        ("roles:\n  a: {inherits: [b]}\n  b: {inherits: [c]}\n  c: {inherits: [a]}", 2, "a -> b -> c -> a"),
        ("roles:\n  viewer: {}\n  b: {inherits: [viewr]}", 3, "did you mean 'viewer'"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line(text: str, line: int, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_policy(text, "mine.yaml")
    assert f"mine.yaml line {line}:" in str(caught.value), str(caught.value)
    assert told in str(caught.value)


def test_operators_change_staging_and_admins_production() -> None:
    policy = load_policy(None)
    for role, namespace, permitted in (
        ("operator", "shop-staging", True),
        ("operator", "shop", False),
        ("operator", "staging", True),
        ("admin", "shop", True),
        ("viewer", "shop-staging", False),
    ):
        touches = {"namespace": (namespace,)}
        found = judge(policy, (role,), policy.grant((role,)), "k8s:scale", lambda t=touches: t, "k8s_scale_deployment")  # type: ignore[misc]
        assert found.permitted is permitted, (role, namespace)


def demo(ran: list[str]) -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:write")
    async def change(ctx: Context[None], namespace: str = "c") -> str:
        ran.append(namespace)
        return namespace

    @worker.tool(permission="demo:purge")
    async def purge(ctx: Context[None]) -> str:
        ran.append("purged")
        return "purged"

    return worker


async def listed(running: Any, role: str) -> list[str]:
    return sorted(tool["name"] for tool in (await running.mcp("tools/list", role=role)).result["tools"])


async def test_conditions_hold_through_edge_and_worker(
    run_edge: Any, run_worker: RunWorker, tmp_path: Path, audit_events: Any
) -> None:
    ran: list[str] = []
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    async with run_edge(policy_file=path, stdio_roles=["operator"]) as running, run_worker(demo(ran)):
        await running.knows("demo_change")
        assert (await running.call("demo_change", {"namespace": "a"}, role="operator")).result
        for arguments in ({"namespace": "c"}, {}, {"namespace": None}, {"namespace": ["a", "c"]}, {"namespace": "A"}):
            error = (await running.call("demo_change", arguments, role="operator")).error["data"]
            assert error["code"] == "forbidden", arguments
            assert "namespace in a, b" in error["hint"]
        assert await listed(running, "operator") == ["demo_change"]
        assert await listed(running, "admin") == ["demo_change", "demo_purge"]
    assert ran == ["a"]
    events = await audit_events(7)
    assert {event["policy"] for event in events} == {parse_policy(POLICY, "x").digest}
    rules = {event["stage"]: event["rule"] for event in events}
    assert rules["requested"] == "policy.yaml:16 operator allow demo:write where namespace in a, b"
    assert rules["denied"] == "default deny"


async def test_a_new_file_is_taken_and_a_broken_one_is_not(
    run_edge: Any, run_worker: RunWorker, tmp_path: Path, audit_events: Any
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("roles: {viewer: {}, admin: {allow: ['*']}, operator: {}}")
    async with run_edge(policy_file=path, stdio_roles=["operator"]) as running, run_worker(demo([])):
        await running.knows("demo_change")
        assert await listed(running, "operator") == []

        async def becomes(names: list[str]) -> None:
            async with asyncio.timeout(30):
                while await listed(running, "operator") != names:
                    await asyncio.sleep(0.05)

        fresh = tmp_path / "fresh.yaml"
        fresh.write_text(POLICY)
        os.replace(fresh, path)  # as an editor does
        await becomes(["demo_change"])
        assert (await running.call("demo_change", {"namespace": "a"}, role="operator")).result
        path.write_text("roles:\n  operator:\n    allow: 5\n")
        async with asyncio.timeout(30):
            while not running.edge.policy_watch.problem:
                await asyncio.sleep(0.05)
        assert "line 3" in running.edge.policy_watch.problem
        health = (await running.http.get("/health")).json()
        assert health["dependencies"]["policy"]["status"] == "degraded"
        assert await listed(running, "operator") == ["demo_change"], "the policy before stays in force"
        path.unlink()
        await asyncio.to_thread(
            path.symlink_to, _written(tmp_path / "next.yaml", "roles: {operator: {allow: ['demo:*']}}")
        )
        await becomes(["demo_change", "demo_purge"])
        assert not running.edge.policy_watch.problem
        assert (await running.http.get("/health")).json()["dependencies"]["policy"]["status"] == "healthy"
    changed = [event for event in await audit_events() if event["stage"] == "policy_changed"]
    assert len(changed) == 2
    assert changed[0]["policy"] == parse_policy(POLICY, "x").digest == changed[1]["details"]["before"]


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def test_a_policy_without_a_role_that_settings_name_is_not_taken(run_edge: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("roles: {admin: {allow: ['*']}}")
    async with run_edge(policy_file=path, stdio_roles=["admin"]) as running:
        path.write_text("roles: {root: {allow: ['*']}}")
        async with asyncio.timeout(30):
            while "has no role 'admin'" not in running.edge.policy_watch.problem:
                await asyncio.sleep(0.05)
        assert running.edge.authenticator._policy.roles == ["admin"]
