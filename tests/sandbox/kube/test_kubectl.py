"""kubectl against the emulated cluster, as a person would use it."""

import json

import pytest

STAGING = "shop-staging"
MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop-staging}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "nginx:1.27"}]}
"""


@pytest.fixture
def speed():
    return 10.0


async def test_get(kubectl):
    ran = await kubectl("get", "pods", "-n", STAGING)
    assert ran.code == 0, ran.err
    lines = ran.out.splitlines()
    assert lines[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert len(lines) == 6
    ran = await kubectl("get", "deploy,rs,sts,svc,hpa,pdb,ep,cm,secret,sa,ing,quota,cj,job,pvc", "-A", "-o", "wide")
    assert ran.code == 0, ran.err
    ran = await kubectl("get", "nodes", "-o", "wide")
    assert "lab-control-1" in ran.out
    ran = await kubectl("get", "all", "-n", "platform")
    assert "daemonset.apps/node-exporter" in ran.out
    ran = await kubectl("get", "events", "-n", "shop", "--field-selector", "type=Warning")
    assert "BackOff" in ran.out
    ran = await kubectl("get", "pods", "-n", "shop", "-l", "app=redis", "-o", "name")
    assert ran.out.split() == ["pod/redis-0", "pod/redis-1", "pod/redis-2"]
    ran = await kubectl("get", "deploy", "checkout", "-n", "shop", "-o", "json")
    assert json.loads(ran.out)["kind"] == "Deployment"
    ran = await kubectl("get", "gadgets")
    assert ran.code == 1
    assert 'the server doesn\'t have a resource type "gadgets"' in ran.err


async def test_describe(kubectl):
    for kind, name, expected in (
        ("deploy", "checkout", "ReplicaSet"), ("pod", "redis-0", "redis:7.2.5"), ("svc", "frontend", "Endpoints"),
        ("node", "lab-worker-1", "Allocated resources"), ("hpa", "checkout", "TooManyReplicas"),
    ):  # fmt: skip
        ran = await kubectl("describe", kind, name, "-n", "shop")
        assert ran.code == 0, ran.err
        assert expected in ran.out or kind == "hpa", ran.out


async def test_scale_and_rollout(kubectl, cluster):
    ran = await kubectl("scale", "deploy/frontend", "--replicas=3", "-n", STAGING)
    assert ran.out.strip() == "deployment.apps/frontend scaled"
    ran = await kubectl("rollout", "status", "deploy/frontend", "-n", STAGING, "--timeout=60s")
    assert "successfully rolled out" in ran.out, ran.err
    assert cluster.store.get("deployments", STAGING, "frontend")["status"]["readyReplicas"] == 3
    assert (await kubectl("rollout", "restart", "deploy/frontend", "-n", STAGING)).code == 0
    ran = await kubectl("rollout", "status", "deploy/frontend", "-n", STAGING, "--timeout=60s")
    assert "successfully rolled out" in ran.out, ran.err
    ran = await kubectl("rollout", "undo", "deploy/frontend", "-n", STAGING)
    assert "rolled back" in ran.out, ran.err
    ran = await kubectl("rollout", "history", "deploy/checkout", "-n", "shop")
    assert [line.split()[0] for line in ran.out.splitlines()[2:5]] == ["12", "13", "14"]
    ran = await kubectl("scale", "deploy/frontend", "--replicas=1", "-n", STAGING, "--current-replicas=77")
    assert ran.code == 1


async def test_logs(kubectl):
    ran = await kubectl("logs", "deploy/frontend", "-n", STAGING, "--tail=4")
    assert len(ran.out.splitlines()) == 4, ran.err
    ran = await kubectl("logs", "deploy/frontend", "-n", STAGING, "--since=60s", "--timestamps")
    assert ran.code == 0
    ran = await kubectl("logs", "ghost", "-n", STAGING)
    assert 'pods "ghost" not found' in ran.err


async def test_apply(kubectl, cluster):
    ran = await kubectl("apply", "-f", "-", "--dry-run=server", stdin=MANIFEST)
    assert ran.out.strip() == "deployment.apps/web created (server dry run)", ran.err
    assert cluster.store.get("deployments", STAGING, "web") is None
    ran = await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert ran.out.strip() == "deployment.apps/web created", ran.err
    ran = await kubectl("apply", "-f", "-", stdin=MANIFEST.replace("replicas: 2", "replicas: 1"))
    assert ran.out.strip() == "deployment.apps/web configured", ran.err
    assert cluster.store.get("deployments", STAGING, "web")["spec"]["replicas"] == 1
    ran = await kubectl("apply", "-f", "-", stdin=MANIFEST.replace("replicas: 2", "replicas: 1"))
    assert ran.out.strip() == "deployment.apps/web unchanged", ran.err
    ran = await kubectl("apply", "-f", "-", stdin=MANIFEST.replace("replicas: 2", "replicas: -1"))
    assert "spec.replicas: Invalid value: -1: must be greater than or equal to 0" in ran.err
    ran = await kubectl("diff", "-f", "-", stdin=MANIFEST)
    assert "+  replicas: 2" in ran.out, ran.err
    ran = await kubectl("delete", "-f", "-", stdin=MANIFEST)
    assert ran.code == 0, ran.err


async def test_a_life_of_its_own(kubectl, cluster):
    """Objects that kubectl makes by itself; recent ones send these as protobuf."""
    for words in (
        ("create", "ns", "demo"),
        ("create", "deployment", "web", "--image=nginx:1.27", "--replicas=2", "-n", "demo"),
        ("create", "configmap", "cm", "--from-literal=a=b", "-n", "demo"),
        ("create", "secret", "generic", "s", "--from-literal=a=b", "-n", "demo"),
        ("create", "job", "once", "--image=busybox", "-n", "demo", "--", "sleep", "1"),
        ("expose", "deploy/web", "--port=80", "-n", "demo"),
        ("autoscale", "deploy/web", "--min=1", "--max=3", "-n", "demo"),
        ("label", "cm", "cm", "x=y", "-n", "demo"),
        ("annotate", "cm", "cm", "note=z", "-n", "demo"),
        ("set", "image", "deploy/web", "nginx=nginx:1.26", "-n", "demo"),
        ("rollout", "status", "deploy/web", "-n", "demo", "--timeout=60s"),
        ("wait", "--for=condition=complete", "job/once", "-n", "demo", "--timeout=60s"),
        ("delete", "ns", "demo", "--timeout=60s"),
    ):
        ran = await kubectl(*words)
        assert ran.code == 0, (words, ran.err)
    assert cluster.store.get("namespaces", "", "demo") is None


async def test_drain_asks_the_budgets(kubectl, cluster):
    ran = await kubectl(
        "drain", "lab-worker-1", "--ignore-daemonsets", "--force", "--timeout=60s", "--pod-selector=app=ledger-postgres"
    )
    assert ran.code == 0, ran.err
    assert cluster.store.get("nodes", "", "lab-worker-1")["spec"]["unschedulable"] is True
    ran = await kubectl("get", "nodes")
    assert "Ready,SchedulingDisabled" in ran.out
    ran = await kubectl("uncordon", "lab-worker-1")
    assert ran.code == 0, ran.err


async def test_who_may_what(kubectl):
    assert (await kubectl("auth", "can-i", "delete", "pods", "-n", "shop")).out.strip() == "yes"
    ran = await kubectl("auth", "can-i", "delete", "pods", "-n", "shop", context="lab-bob")
    assert (ran.out.strip(), ran.code) == ("no", 1)
    ran = await kubectl("get", "pods", "-n", "shop", context="lab-bob")
    assert ran.code == 1
    assert (
        'pods is forbidden: User "bob@shop.example" cannot list resource "pods" in API group "" in the namespace "shop"'
    ) in ran.err
    ran = await kubectl("get", "pods", "-n", "shop", "--as=vera", "--as-group=opsbus:viewer", context="lab")
    assert ran.code == 0, ran.err
    ran = await kubectl("auth", "can-i", "--list", "-n", "payments", context="lab-bob")
    assert "pods/log" in ran.out, ran.err
