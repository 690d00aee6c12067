"""Whole objects masked, trimmed and selected from: what must not be seen, and what must stay."""

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsbus import ErrorCode, ToolError
from opsbus_k8s_ops.objectmask import clean
from opsbus_k8s_ops.selection import compile_path, select
from opsbus_k8s_ops.trimming import size_of, trim

S = "hunter2correcthorse"


def shown(**parts: Any) -> dict[str, Any]:
    return clean({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, **parts})


@pytest.mark.parametrize(
    "obj",
    [
        {"kind": "Secret", "data": {"password": S, "user": S}, "stringData": {"x": S}},
        {"kind": "ClusterSecret", "data": {"user": S}},
        {"kind": "ExternalSecret", "spec": {"target": {"template": {"data": {"config": S}}}}},
        {"kind": "Secret", "metadata": {"annotations": {"some.tool/original": json.dumps({"data": {"user": S * 9}})}}},
        {
            "kind": "Deployment",
            "metadata": {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": f'{{"x": "{S}"}}'}},
        },
        {"kind": "Pod", "spec": {"containers": [{"env": [{"name": "DB_PASSWORD", "value": S}]}]}},
        {"kind": "Pod", "spec": {"containers": [{"args": ["--password", S]}]}},
        {"kind": "Pod", "spec": {"containers": [{"args": [f"--token={S}"]}]}},
        {"kind": "Pod", "spec": {"containers": [{"command": ["sh", "-c", f"mysql --password {S} -h db"]}]}},
        {"kind": "Pod", "spec": {"httpGet": {"httpHeaders": [{"name": "Authorization", "value": S}]}}},
        {"kind": "Widget", "spec": {"db": {"password": S, "url": f"postgres://u:{S}@db/x"}}},
        {"kind": "Widget", "spec": {"apiKey": 1234567890123456789}},
        {"kind": "ConfigMap", "data": {"DB_PASSWORD": S}},
        {"kind": "ConfigMap", "data": {"app.properties": f"a=b\ndb.password={S}\n"}},
        {"kind": "ConfigMap", "data": {"values.yaml": f"db:\n  password: |\n    {S}\n  host: db"}},
        {"kind": "ConfigMap", "data": {"pod.yaml": f"env:\n- name: DB_PASSWORD\n  value: {S}\n"}},
        {"kind": "ConfigMap", "data": {"app.json": json.dumps({"a": [{"name": "API_TOKEN", "value": S}]}, indent=2)}},
        {"kind": "ConfigMap", "data": {"k": f"-----BEGIN PRIVATE KEY-----\n{S}\n-----END PRIVATE KEY-----"}},
        {
            "kind": "ConfigMap",
            "data": {"c": base64.b64encode(f"-----BEGIN RSA PRIVATE KEY-----\n{S}".encode()).decode()},
        },
        {"kind": "ConfigMap", "binaryData": {"keystore": S}},
        {"kind": "ConfigMap", "metadata": {"labels": {"owner": "helm"}}, "data": {"release": S}},
        {"kind": "Event", "message": f"failed: password={S}"},
        {"kind": "Job", "status": {"conditions": [{"message": f"Authorization: Bearer {S}"}]}},
    ],
)
def test_a_secret_of_an_object_is_not_seen(obj: dict[str, Any]) -> None:
    before = json.dumps(obj)
    text = json.dumps(clean(obj))
    assert S not in text
    assert base64.b64encode(S.encode()).decode() not in text
    assert "1234567890123456789" not in text
    assert "masked" in text or "left out" in text
    assert json.dumps(obj) == before


def test_names_stay_and_what_is_no_secret_stays() -> None:
    secret = clean({"kind": "Secret", "type": "Opaque", "data": {"password": "x", "user": "y"}})
    assert secret["data"] == {"password": "[masked:secret]", "user": "[masked:secret]"}
    assert secret["type"] == "Opaque"
    harmless = {
        "spec": {
            "serviceAccountName": "default",
            "automountServiceAccountToken": True,
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [{"name": "v", "secret": {"secretName": "checkout-payments", "defaultMode": 420}}],
            "env": [{"name": "LOG_LEVEL", "value": "info"}, {"name": "PASSWORD_FILE", "value": "/run/x"}],
            "envFrom": [{"secretRef": {"name": "checkout"}}],
            "containers": [{"args": ["--verbose", "--port", "8080"]}],
        },
        "data": {"LOG_LEVEL": "info", "nginx.conf": "server {\n  listen 80;\n}\n", "n.json": '{"a": [1, 2]}'},
    }
    assert {key: shown(**harmless)[key] for key in harmless} == harmless


def test_managed_fields_are_left_out() -> None:
    found = clean({"kind": "Pod", "metadata": {"name": "a", "managedFields": [{"manager": "kubectl"}]}})
    assert found["metadata"] == {"name": "a"}


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=20), inner, max_size=8),
    max_leaves=40,
)


@given(JSONS, st.integers(500, 5_000))
def test_anything_is_trimmed_to_its_budget_and_says_so(value: Any, room: int) -> None:
    trimmed = trim(value, room)
    assert size_of(trimmed.value) <= room
    assert (trimmed.value == value) is (not trimmed.left_out)


def test_small_parts_stay_and_large_ones_are_named() -> None:
    obj = {"kind": "X", "data": {"small": "s", "large file.txt": "y" * 50_000}, "items": list(range(20_000))}
    trimmed = trim(obj, 5_000)
    assert (trimmed.value["kind"], trimmed.value["data"]["small"]) == ("X", "s")
    assert list(trimmed.value) == list(obj)
    assert "more characters" in trimmed.value["data"]["large file.txt"]
    assert trimmed.value["items"][:3] == [0, 1, 2]
    assert "of 20000 items" in trimmed.value["items"][-1]
    assert set(trimmed.left_out) == {"data['large file.txt']", "items"}
    many = trim({f"key{i}": "v" * 20 for i in range(5_000)}, 3_000)
    assert "of 5000 entries" in many.value["..."]


OBJ = {
    "metadata": {"name": "x", "annotations": {"a.b/c": "1"}},
    "spec": {"foo-bar": 2, "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]},
    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("metadata.name", "x"),
        (".metadata.name", "x"),
        ("$.metadata.name", "x"),
        ("{.metadata.name}", "x"),
        ("metadata.annotations['a.b/c']", "1"),
        (r"metadata.annotations.a\.b/c", "1"),
        ("spec.foo-bar", 2),
        ("spec.containers[*].image", ["i", "j"]),
        ("spec.containers[-1:].name", ["b"]),
        ("spec.containers[0].name", "a"),
        ("$..image", ["i", "j"]),
        ('{.status.conditions[?(@.type=="Ready")].status}', ["True"]),
        ("spec.containers[?@.name=='b'].image", ["j"]),
        ("spec.nothing", None),
        ("spec.containers[*].nothing", []),
    ],
)
def test_a_path_selects(expression: str, value: Any) -> None:
    values, warnings = select(OBJ, [expression])
    assert values == {expression: value}
    assert bool(warnings) is (value in (None, []))


def test_a_path_that_leads_nowhere_says_where_it_left() -> None:
    assert "containers" in select(OBJ, ["spec.container"])[1][0]
    assert "[*]" in select(OBJ, ["spec.containers.name"])[1][0]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        " ",
        "spec[",
        "spec.containers[?",
        "$..a..b",
        "spec.x[?@.a =~ /(a+)+$/]",
        "spec.x[?match(@.a, '(a+)+$')]",
        "spec.x[?search(@.a, 'b')]",
        "spec.x[?@.a == $.b]",
        "spec | metadata",
        "a" * 400,
        "[" * 200,
    ],
)
def test_a_path_that_cannot_be_read_or_is_dangerous_is_refused(expression: str) -> None:
    with pytest.raises(ToolError) as refusal:
        compile_path(expression)
    assert refusal.value.code is ErrorCode.INVALID_ARGUMENTS
    assert "fields" in refusal.value.message


@given(st.text(max_size=60))
def test_any_text_is_a_path_or_refused(text: str) -> None:
    with contextlib.suppress(ToolError):  # any other exception would fail the test
        assert text in select(OBJ, [text])[0]
