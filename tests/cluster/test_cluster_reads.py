"""The tools that read, before any cluster: lists and their pages, one object, events, logs, diagnosis, rights."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from opsbus_contracts import ErrorCode

from .admin import Admin, at
from .conftest import Ask, identity, unique
from .lab import Lab
from .objects import deployment, event, pod

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="session")]

MANY = 60
"""Of each kind: three pages of the worker's requests."""


async def create_many(admin: Admin, path: str, objects: list[dict[str, Any]]) -> None:
    gate = asyncio.Semaphore(8)

    async def one(obj: dict[str, Any]) -> None:
        async with gate:
            await admin.create(path, obj)

    await asyncio.gather(*(one(obj) for obj in objects))


async def all_pages(ask: Ask, tool: str, **arguments: Any) -> tuple[list[str], Any]:
    """Names of all pages, and the first page."""
    first = page = (await ask(tool, **arguments)).structured
    names = [row["name"] for row in page["items"]]
    while page["page"]["next_cursor"]:
        page = (await ask(tool, **arguments, cursor=page["page"]["next_cursor"])).structured
        names += [row["name"] for row in page["items"]]
    return names, first


async def test_the_cluster_answers(ask: Ask, lab: Lab) -> None:
    found = (await ask("list_clusters")).structured
    (row,) = found["items"]
    assert (row["name"], row["reachable"], found["default"]) == (lab.context, True, lab.context)
    assert row["version"].startswith("v1."), row


@pytest.mark.parametrize(
    ("tool", "version", "plural", "kind"),
    [
        ("get_resource", "v1", "configmaps", "ConfigMap"),
        ("get_pods", "v1", "pods", "Pod"),
        ("get_deployments", "apps/v1", "deployments", "Deployment"),
    ],
)
async def test_lists_come_in_pages(
    ask: Ask, admin: Admin, lab: Lab, tool: str, version: str, plural: str, kind: str
) -> None:
    group, path = unique("many"), at(version, plural, lab.namespace)
    names = [f"{group}-{number:02d}" for number in range(MANY)]
    made = {
        "ConfigMap": lambda name: {"metadata": {"name": name, "labels": {"group": group}}, "data": {"a": "b"}},
        "Pod": lambda name: pod(name, labels={"group": group}),
        "Deployment": lambda name: deployment(name, replicas=0, labels={"group": group}),
    }[kind]
    await create_many(admin, path, [made(name) for name in names])
    where = (
        {"kind": "ConfigMap", "namespace": lab.namespace} if kind == "ConfigMap" else {"namespaces": [lab.namespace]}
    )
    if kind == "Deployment" and lab.controllers:

        async def settled() -> bool:
            counts = (await ask(tool, label_selector=f"group={group}", limit=1, **where)).structured["counts"]
            return "progressing" not in counts["states"]

        # The unhealthy come first: one that gets well between two pages would be on both.
        assert await admin.until(settled)
    listed, first = await all_pages(ask, tool, label_selector=f"group={group}", limit=25, **where)
    assert sorted(listed) == names
    assert first["page"]["total"] == MANY
    assert first["page"]["truncated"] is True
    chunk = await admin.get(path, ("limit", "25"), ("labelSelector", f"group={group}"))
    assert chunk is not None
    assert len(chunk["items"]) == 25
    assert chunk["metadata"]["continue"]
    if kind == "Pod":
        assert first["counts"] == {
            "total": MANY,
            "unhealthy": first["counts"]["unhealthy"],
            "states": {"Pending": MANY},
        }
        grouped = (await ask(tool, **where, label_selector=f"group={group}", group_by="node")).structured
        assert [(row["key"], row["total"]) for row in grouped["groups"]] == [("(none)", MANY)]
    if kind == "Deployment" and not lab.controllers:
        assert first["counts"]["states"] == {"progressing": MANY}
        assert "has not seen" in first["items"][0]["reason"]
    await admin.delete(path, ("labelSelector", f"group={group}"), grace_s=0)


async def test_a_pod_that_nobody_starts(ask: Ask, admin: Admin, lab: Lab) -> None:
    name = unique("waiting")
    made = await admin.create(at("v1", "pods", lab.namespace), pod(name))
    row = (await ask("get_pods", namespaces=[lab.namespace], field_selector=f"metadata.name={name}")).structured[
        "items"
    ][0]
    assert (row["state"], row["ready"], row.get("node")) == ("Pending", "0/1", None)

    for arguments in ({"pod": name}, {"label_selector": f"app={name}"}):
        error = (await ask("get_pod_logs", namespace=lab.namespace, **arguments)).error
        assert error.code is ErrorCode.NOT_FOUND, error
        assert "on no node" in error.message
    error = (await ask("get_pod_logs", namespace=lab.namespace, pod=name, containers=["mian"])).error
    assert (error.code, error.did_you_mean) == (ErrorCode.INVALID_ARGUMENTS, ["main"])

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = event(lab.namespace, made, "Unwanted", "password=hunter22 nobody wants it", count=3)
    await admin.create(at("v1", "events", lab.namespace), told | {"firstTimestamp": now, "lastTimestamp": now})
    asked = {"namespaces": [lab.namespace], "object": f"pod/{name}", "types": ["Warning"], "reasons": ["Unwanted"]}
    (row,) = (await ask("get_events", **asked)).structured["items"]
    assert (row["reason"], row["count"], row["object"]) == ("Unwanted", 3, f"Pod/{name}")
    assert "hunter22" not in row["message"]
    counted = (await ask("get_events", **asked, group_by="reason")).structured
    assert counted["groups"][0]["key"] == "Unwanted"
    assert (await ask("get_events", **asked | {"types": ["Normal"]})).structured["items"] == []


async def test_one_object_and_its_parts(ask: Ask, admin: Admin, lab: Lab) -> None:
    name = unique("settings")
    path = at("v1", "configmaps", lab.namespace)
    labelled = {"name": name, "labels": {"app": name}}
    await admin.create(path, {"metadata": labelled, "data": {"plain": "value", "db_password": "hunter22"}})
    place = {"namespace": lab.namespace, "name": name}
    (row,) = (await ask("get_resource", kind="ConfigMap", **place)).structured["items"]
    assert row["object"]["data"]["plain"] == "value"
    assert "managedFields" not in row["object"]["metadata"]
    assert "hunter22" not in str(row)
    (row,) = (await ask("get_resource", kind="cm", **place, fields=["metadata.labels", "$.data.plain"])).structured[
        "items"
    ]
    assert row["values"] == {"metadata.labels": {"app": name}, "$.data.plain": "value"}
    assert row["version"] == (await admin.read(f"{path}/{name}"))["metadata"]["resourceVersion"]
    namespaces = (await ask("get_resource", kind="namespace", name=lab.namespace)).structured["items"]
    assert [row["state"] for row in namespaces] == ["Active"]


async def test_secrets_keep_their_values(ask: Ask, admin: Admin, lab: Lab) -> None:
    name = unique("keys")
    secret = {"metadata": {"name": name}, "type": "Opaque", "stringData": {"token": "hunter22hunter22"}}
    await admin.create(at("v1", "secrets", lab.namespace), secret)
    asked = {"kind": "Secret", "namespace": lab.namespace}
    if lab.rbac:
        for role in ("viewer", "operator", "admin"):
            error = (await ask("get_resource", role, **asked, name=name)).error
            assert error.code is ErrorCode.FORBIDDEN
            assert f"{role}@shop.example" in error.message
    who = identity("viewer", "auditor")  # the second of the two groups may
    (row,) = (await ask("get_resource", who=who, **asked, name=name)).structured["items"]
    assert list(row["object"]["data"]) == ["token"]
    listed = (await ask("get_resource", who=who, **asked, fields=["data"])).structured["items"]
    for shown in (row, listed):
        assert "hunter22" not in str(shown)
        assert "aHVudGVyMjJodW50ZXIyMg" not in str(shown)


NOT_THERE: list[tuple[str, dict[str, Any], str]] = [
    ("get_pods", {"namespaces": ["{}-closd"]}, "{}-closed"),
    ("get_deployments", {"namespaces": ["{}"], "name": "looked-att"}, "looked-at"),
    ("get_resource", {"kind": "configmapps", "namespace": "{}"}, "configmaps"),
    ("get_resource", {"kind": "deployment", "namespace": "{}", "name": "looked-att"}, "looked-at"),
    ("get_events", {"namespaces": ["{}"], "object": "deployment/looked-att"}, "looked-at"),
    ("get_pod_logs", {"namespace": "{}", "workload": "looked-att"}, "looked-at"),
    ("diagnose_workload", {"namespace": "{}", "workload": "looked-att"}, "looked-at"),
    ("rollout_status", {"namespace": "{}", "workload": "deployment/looked-att"}, "looked-at"),
    ("rollout_history", {"namespace": "{}-closd", "workload": "looked-at"}, "{}-closed"),
    ("can_i", {"verb": "lst", "kind": "pods"}, "list"),
    ("scale_deployment", {"namespace": "{}", "name": "looked-att", "replicas": 1, "reason": "a try"}, "looked-at"),
    ("restart_deployment", {"namespace": "{}", "name": "looked-att", "reason": "a try"}, "looked-at"),
    ("rollback_deployment", {"namespace": "{}", "name": "looked-att", "reason": "a try"}, "looked-at"),
]


async def test_what_is_not_there_is_told_with_what_is_near(ask: Ask, lab: Lab) -> None:
    for tool, arguments, meant in NOT_THERE:
        filled = {
            key: [part.format(lab.namespace) for part in value] if isinstance(value, list)
            else value.format(lab.namespace) if isinstance(value, str) else value
            for key, value in arguments.items()
        }  # fmt: skip
        error = (await ask(tool, "operator", **filled)).error
        assert error.code in (ErrorCode.NOT_FOUND, ErrorCode.INVALID_ARGUMENTS), (tool, error)
        assert meant.format(lab.namespace) in error.did_you_mean, (tool, error)


async def test_rights_are_the_clusters(ask: Ask, lab: Lab) -> None:
    scale = {"verb": "patch", "kind": "deployments/scale"}
    wanted = [
        ("viewer", {"verb": "list", "kind": "pods"}, True),
        ("viewer", scale | {"namespace": lab.namespace}, False),
        ("operator", scale | {"namespace": lab.namespace}, True),
        ("operator", scale | {"namespace": lab.closed}, False),
        ("admin", scale | {"namespace": lab.closed}, True),
        ("admin", {"verb": "get", "kind": "secrets", "namespace": lab.namespace}, False),
        ("stranger", {"verb": "list", "kind": "pods"}, False),
    ]
    for role, arguments, allowed in wanted:
        found = (await ask("can_i", role, **arguments)).structured
        assert (found["allowed"], found["by"]) == (allowed or not lab.rbac, "cluster"), (role, arguments)
        assert (found["user"], found["groups"]) == (
            f"{role}@shop.example",
            [f"opsbus-test-{lab.suffix}:{role}"],
        )
    if lab.rbac:
        error = (await ask("get_pods", "stranger", namespaces=[lab.namespace])).error
        assert error.code is ErrorCode.FORBIDDEN
        assert "stranger@shop.example" in error.message


async def test_a_workload_is_looked_at_as_far_as_there_is_something(ask: Ask, admin: Admin, lab: Lab) -> None:
    name = unique("web")
    await admin.create(at("apps/v1", "deployments", lab.namespace), deployment(name, replicas=2))
    place = {"namespace": lab.namespace, "workload": name}
    if lab.controllers:

        async def seen() -> bool:
            made = await admin.read(at("apps/v1", "deployments", lab.namespace, name))
            return bool((made.get("status") or {}).get("observedGeneration"))

        assert await admin.until(seen)
    status = (await ask("rollout_status", **place, wait_s=2)).structured
    assert status["replicas"]["desired"] == 2
    found = (await ask("diagnose_workload", **place)).structured
    history = (await ask("rollout_history", **place)).structured
    if lab.controllers:
        assert [row["revision"] for row in history["items"]] == [1]
        assert "has not seen" not in (status.get("reason") or "")
    else:
        assert (status["state"], status["timed_out"], status["replicas"]["ready"]) == ("progressing", True, 0)
        assert "has not seen the last change" in status["reason"]
        assert history["items"] == []
        assert "no revisions" in history["warnings"][0]
    assert found["verdict"]
    assert not any("may not be read" in warning for warning in found["warnings"])
    await admin.delete(at("apps/v1", "deployments", lab.namespace, name))
