"""Parts that have no need of a server: quantities, selectors, patches, schedules, rollout arithmetic, protobuf."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsbus_sandbox.kube import protobuf
from opsbus_sandbox.kube.errors import ApiError
from opsbus_sandbox.kube.names import template_hash
from opsbus_sandbox.kube.objects.pod_defaults import qos_class
from opsbus_sandbox.kube.patch import merge_patch
from opsbus_sandbox.kube.quantity import format_bytes, format_cpu, parse_quantity
from opsbus_sandbox.kube.reconcile.cron import is_due
from opsbus_sandbox.kube.request import parse_path
from opsbus_sandbox.kube.rollout import Bounds, bounds_of, new_size, old_sizes, proportional_sizes
from opsbus_sandbox.kube.selectors import match_requirements, parse_labels
from opsbus_sandbox.kube.store import HistoryGoneError, ObjectStore
from opsbus_sandbox.kube.strategic import strategic_merge
from opsbus_sandbox.kube.tables.cells import duration


@pytest.mark.parametrize(
    ("text", "value"),
    [("250m", "0.25"), ("2", "2"), ("1.5", "1.5"), ("512Mi", str(512 * 2**20)), ("1k", "1000"), ("1e3", "1000"),
     ("2E", str(2 * 10**18)), ("100n", "1E-7"), (".5", "0.5"), (4, "4")],
)  # fmt: skip
def test_quantities(text, value):
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "lots", "1 Mi", "1MiB", "--1", "1e", "0x10", None, True, [], "１", "1\n"])
def test_bad_quantities(text):
    with pytest.raises(ValueError):
        parse_quantity(text)


def test_sums_are_shown_as_people_write_them():
    assert [format_cpu(Decimal(n)) for n in ("2", "0.25", "1.5")] == ["2", "250m", "1500m"]
    assert [format_bytes(Decimal(n)) for n in (2**30, 3 * 2**20, 1000, 0)] == ["1Gi", "3Mi", "1000", "0"]


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", "/api/v1/namespaces/shop/pods/p/log", {}, ("get", "", "shop", "pods", "p", "log")),
        ("GET", "/api/v1/pods", {"watch": "true"}, ("watch", "", "", "pods", "", "")),
        ("GET", "/api/v1/namespaces", {}, ("list", "", "", "namespaces", "", "")),
        ("GET", "/api/v1/namespaces/shop", {}, ("get", "", "shop", "namespaces", "shop", "")),
        ("PUT", "/api/v1/namespaces/shop/status", {}, ("update", "", "shop", "namespaces", "shop", "status")),
        ("DELETE", "/apis/apps/v1/namespaces/s/jobs", {}, ("deletecollection", "apps", "s", "jobs", "", "")),
        ("GET", "/api/v1/nodes", {"fieldSelector": "metadata.name=n1"}, ("list", "", "", "nodes", "n1", "")),
        ("PUT", "/apis/apps/v1/namespaces/s/jobs/d/scale", {}, ("update", "apps", "s", "jobs", "d", "scale")),
    ],
)  # fmt: skip
def test_paths_are_read_as_the_api_server_reads_them(method, path, query, expected):
    info = parse_path(method, path, query)
    assert (info.verb, info.group, info.namespace, info.resource, info.name, info.subresource) == expected


def code_of(attempt):
    """The code of the refusal, None when there was none."""
    try:
        attempt()
    except ApiError as error:
        return error.code
    return None


@given(st.text(max_size=60))
def test_any_text_is_a_selector_or_refused(text):
    assert code_of(lambda: match_requirements(parse_labels(text), {"app": "x"})) in (None, 400)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
NO_NULLS = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(NO_NULLS, NO_NULLS)
def test_merge_patch_is_idempotent(original, patch):
    once = merge_patch(original, patch)
    assert merge_patch(once, patch) == once


def test_merge_patch_removes_by_null():
    assert merge_patch({"a": 1, "b": {"c": 2, "d": 3}}, {"a": None, "b": {"c": None}}) == {"b": {"d": 3}}


def test_strategic_order_and_retain_directives():
    original = {"spec": {"containers": [{"name": "a", "x": 1}, {"name": "b"}], "strategy": {"type": "R", "old": 1}}}
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
            "containers": [{"name": "c"}],
            "strategy": {"$retainKeys": ["type"], "type": "S"},
        }
    }
    merged = strategic_merge("deployments", original, patch)["spec"]
    assert [c["name"] for c in merged["containers"]] == ["b", "c", "a"]
    assert merged["containers"][2] == {"name": "a", "x": 1}
    assert merged["strategy"] == {"type": "S"}
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["x"], "finalizers": ["z"]}}
    merged = strategic_merge("pods", {"metadata": {"finalizers": ["x", "y"]}}, patch)
    assert merged["metadata"]["finalizers"] == ["y", "z"]


def test_strategic_ports_have_the_key_of_their_kind():
    patch = {"spec": {"ports": [{"port": 80, "name": "new"}]}}
    service = {"spec": {"ports": [{"port": 80, "name": "old"}, {"port": 81}]}}
    assert strategic_merge("services", service, patch)["spec"]["ports"] == [{"port": 80, "name": "new"}, {"port": 81}]


@given(st.dictionaries(st.text(max_size=4), JSONS, max_size=4), st.dictionaries(st.text(max_size=4), JSONS, max_size=4))
def test_strategic_merge_answers_or_refuses(original, patch):
    assert code_of(lambda: strategic_merge("deployments", original, patch)) in (None, 400)


def replicaset(name, replicas, available):
    return {
        "metadata": {"name": name, "creationTimestamp": f"2026-01-0{len(name)}T00:00:00Z"},
        "spec": {"replicas": replicas}, "status": {"replicas": replicas, "availableReplicas": available},
    }  # fmt: skip


@given(
    wanted=st.integers(0, 20), surge=st.integers(0, 5), unavailable=st.integers(0, 5),
    new=st.integers(0, 20), new_ready=st.integers(0, 20), old=st.integers(0, 20), old_ready=st.integers(0, 20),
)  # fmt: skip
def test_a_rollout_never_leaves_its_bounds(wanted, surge, unavailable, new, new_ready, old, old_ready):
    if surge == unavailable == 0:
        unavailable = 1
    bounds = Bounds(surge, min(unavailable, wanted))
    newest = replicaset("new", new, min(new, new_ready))
    others = [replicaset("o", old, min(old, old_ready))]
    size = new_size(wanted, bounds, newest, others)
    if size > new:
        assert size + old <= wanted + surge
        assert size <= wanted
    sizes = old_sizes(wanted, bounds, newest, others)
    left = sizes.get("o", old)
    assert 0 <= left <= old
    available = min(new, new_ready) + min(old, old_ready)
    if left < old:
        # What works is given up only down to the floor; what does not work may go.
        broken = old - min(old, old_ready)
        lost = max(0, (old - left) - broken)
        assert available - lost >= min(available, wanted - bounds.unavailable)


@given(st.integers(0, 30), st.integers(0, 5), st.lists(st.integers(1, 15), min_size=2, max_size=4))
def test_proportional_scaling_adds_up(wanted, surge, sizes):
    active = [replicaset("r" * (index + 1), size, size) for index, size in enumerate(sizes)]
    result = proportional_sizes(wanted, Bounds(surge, 0), active)
    assert all(size >= 0 for size in result.values())
    assert sum(result.values()) == (wanted + surge if wanted else 0)


def test_bounds_are_rounded_in_favour_of_progress():
    spec = {"replicas": 3, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}
    assert bounds_of({"spec": spec}) == Bounds(1, 0)
    spec["strategy"]["rollingUpdate"] = {"maxSurge": "0%", "maxUnavailable": "10%"}
    assert bounds_of({"spec": spec}) == Bounds(0, 1)


def test_template_hash_ignores_itself():
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}
    labelled = {"metadata": {"labels": {"app": "x", "pod-template-hash": "1"}}, "spec": {"containers": []}}
    assert template_hash(template) == template_hash(labelled)
    assert template_hash(template) != template_hash({**template, "spec": {"containers": [1]}})


MOMENT = datetime(2026, 11, 20, 2, 30, tzinfo=UTC)  # a Friday


@pytest.mark.parametrize(
    ("schedule", "due"),
    [("* * * * *", True), ("30 2 * * *", True), ("31 2 * * *", False), ("*/15 * * * *", True), ("*/7 * * * *", False),
     ("30 2 * * 5", True), ("30 2 * * 1-4", False), ("30 2 20 11 *", True), ("30 2 1 * 5", True), ("30 2 1 * 1", False),
     ("0,30 1-3 * * *", True), ("@daily", False), ("30 2 * * 7", False), ("20/5 * * * *", True)],
)  # fmt: skip
def test_cron(schedule, due):
    assert is_due(schedule, MOMENT) is due


@pytest.mark.parametrize("schedule", ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "* * * * * *"])
def test_bad_cron(schedule):
    with pytest.raises(ValueError):
        is_due(schedule, MOMENT)


@given(st.binary(max_size=200))
def test_protobuf_answers_or_refuses(raw):
    for body in (raw, b"k8s\x00" + raw):
        assert code_of(partial(protobuf.decode, body)) in (None, 400)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5s"), (119, "119s"), (125, "2m5s"), (600, "10m"), (7200, "120m"), (4 * 3600 + 60, "4h1m"), (86400 * 3, "3d"),
     (86400 * 30, "30d"), (-5, "0s"), (86400 * 800, "2y70d")],
)  # fmt: skip
def test_ages(seconds, text):
    assert duration(seconds) == text


def test_quality_of_service():
    def spec(resources):
        return {"containers": [{"resources": resources}]}

    same = {"cpu": "1", "memory": "1Gi"}
    assert qos_class(spec({})) == "BestEffort"
    assert qos_class(spec({"limits": same, "requests": {"cpu": "1000m", "memory": "1024Mi"}})) == "Guaranteed"
    assert qos_class(spec({"requests": {"cpu": "1"}})) == "Burstable"


async def test_the_log_of_changes_is_bounded():
    store = ObjectStore(history_limit=10)
    start = store.version
    for number in range(25):
        store.create("configmaps", {"metadata": {"name": f"m{number}", "namespace": "d"}})
    assert len(store.changes_since(store.version - 10)) == 10
    with pytest.raises(HistoryGoneError):
        store.changes_since(store.version - 11)
    with pytest.raises(HistoryGoneError):
        store.list_at("configmaps", "d", start)
    assert len(store.list_at("configmaps", "d", store.version - 5)) == 20


def test_the_past_can_be_listed():
    store = ObjectStore()

    def body(name, value):
        return {"metadata": {"name": name, "namespace": "d"}, "data": {"v": value}}

    for name in "abc":
        store.create("configmaps", body(name, "1"))
    then = store.version
    store.delete("configmaps", "d", "a")
    store.update("configmaps", body("b", "2"))
    store.create("configmaps", body("d", "1"))
    store.create("configmaps", body("a", "9"))
    past = store.list_at("configmaps", "d", then)
    assert [(o["metadata"]["name"], o["data"]["v"]) for o in past] == [("a", "1"), ("b", "1"), ("c", "1")]
