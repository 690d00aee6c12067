"""What the API refuses, and in which words: validation, decoding, media types, methods."""

import copy
import json

import pytest

STAGING = "shop-staging"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{STAGING}/deployments"
FRONTEND = f"{DEPLOYMENTS}/frontend"
RBAC = "rbac.authorization.k8s.io/v1"
MERGE = "application/merge-patch+json"


def change(body, path, value):
    """The body with one nested value set."""
    body = copy.deepcopy(body)
    *steps, last = path.split(".")
    inner = body
    for step in steps:
        inner = inner[int(step)] if step.isdigit() else inner[step]
    inner[int(last) if last.isdigit() else last] = value
    return body


POD = "spec.template.spec"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("spec.replicas", -1, "spec.replicas: Invalid value: -1: must be greater than or equal to 0"),
        ("spec.selector", None, "spec.selector: Required value"),
        (
            "spec.selector.matchLabels.app", "other",
            'spec.template.metadata.labels: Invalid value: map[string]string{"app":"web"}: `selector` does not match '
            "template `labels`",
        ),
        (
            "spec.strategy", {"type": "Sideways"},
            'spec.strategy.type: Unsupported value: "Sideways": supported values: "Recreate", "RollingUpdate"',
        ),
        (
            "spec.strategy", {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}},
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            "spec.strategy", {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}},
            "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
        ),
        (
            "spec.progressDeadlineSeconds", 0,
            "spec.progressDeadlineSeconds: Invalid value: 0: must be greater than minReadySeconds",
        ),
        (f"{POD}.containers", [], f"{POD}.containers: Required value"),
        (f"{POD}.containers.0.image", "", f"{POD}.containers[0].image: Required value"),
        (
            f"{POD}.restartPolicy", "Never",
            f'{POD}.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
        (
            f"{POD}.containers.0.ports", [{"containerPort": 99999}],
            f"{POD}.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
        ),
        (
            f"{POD}.containers.0.resources", {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}},
            f'{POD}.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
        (
            f"{POD}.containers.0.volumeMounts", [{"name": "nope", "mountPath": "/x"}],
            f'{POD}.containers[0].volumeMounts[0].name: Not found: "nope"',
        ),
        (
            f"{POD}.containers.0.imagePullPolicy", "Sometimes",
            f'{POD}.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", '
            '"IfNotPresent", "Never"',
        ),
        (
            f"{POD}.containers.0.livenessProbe", {},
            f"{POD}.containers[0].livenessProbe: Required value: must specify a handler type",
        ),
        ("metadata.name", "", "metadata.name: Required value: name or generateName is required"),
    ],
)  # fmt: skip
async def test_invalid_deployments(api, make_deployment, path, value, message):
    body = change(make_deployment("web"), path, value)
    code, _, status = await api.raw("POST", DEPLOYMENTS, body)
    assert (code, status["reason"]) == (422, "Invalid"), status
    name = body["metadata"]["name"]
    assert status["message"] == f'Deployment.apps "{name}" is invalid: {message}'
    assert status["details"]["kind"] == "Deployment"
    assert status["details"]["group"] == "apps"
    (cause,) = status["details"]["causes"]
    assert message == f"{cause['field']}: {cause['message']}"


async def test_every_cause_is_named(api, make_deployment):
    body = change(make_deployment("web", replicas=-2), f"{POD}.containers.0.image", "")
    _, _, status = await api.raw("POST", DEPLOYMENTS, body)
    assert len(status["details"]["causes"]) == 2
    assert status["message"].startswith('Deployment.apps "web" is invalid: [spec.replicas: Invalid value: -2')


@pytest.mark.parametrize("name", ["Web", "web_1", "-web", "web-", "w" * 254, "web/x", "wéb", "web\n"])
async def test_bad_names(api, make_deployment, name):
    code, _, status = await api.raw("POST", DEPLOYMENTS, make_deployment("web") | {"metadata": {"name": name}})
    assert code == 422
    assert status["details"]["causes"][0]["field"] == "metadata.name"
    assert f'Invalid value: "{name}"' in status["message"]


async def test_the_selector_stays(api):
    code, _, status = await api.raw(
        "PATCH", FRONTEND, {"spec": {"selector": {"matchLabels": {"app": "else"}}}}, Content_Type=MERGE
    )
    assert code == 422
    code, _, status = await api.raw(
        "PATCH", FRONTEND, {"spec": {"selector": {"matchLabels": {"team": "storefront"}}}}, Content_Type=MERGE
    )
    assert "field is immutable" in status["message"]


async def test_most_of_a_pod_stays(api):
    path = f"/api/v1/namespaces/{STAGING}/pods/redis-0"
    code, _, status = await api.raw("PATCH", path, {"spec": {"restartPolicy": "Never"}}, Content_Type=MERGE)
    assert code == 422
    assert "pod updates may not change fields other than" in status["message"]


@pytest.mark.parametrize(
    ("path", "value", "what", "field", "go_type"),
    [
        ("spec.replicas", "three", "string", "DeploymentSpec.spec.replicas", "int32"),
        ("spec.replicas", 2**40, "number 1099511627776", "DeploymentSpec.spec.replicas", "int32"),
        ("spec.replicas", 1.5, "number 1.5", "DeploymentSpec.spec.replicas", "int32"),
        ("spec.paused", "yes", "string", "DeploymentSpec.spec.paused", "bool"),
        ("metadata.labels", {"a": 1}, "number", "ObjectMeta.metadata.labels", "string"),
        ("metadata.labels", [], "array", "ObjectMeta.metadata.labels", "map[string]string"),
        (f"{POD}.containers", {}, "object", f"PodSpec.{POD}.containers", "[]v1.Container"),
        (f"{POD}.containers.0", "nginx", "string", f"PodSpec.{POD}.containers", "v1.Container"),
        ("spec", [], "array", "Deployment.spec", "v1.DeploymentSpec"),
    ],
)
async def test_wrong_types(api, make_deployment, path, value, what, field, go_type):
    code, _, status = await api.raw("POST", DEPLOYMENTS, change(make_deployment("web"), path, value))
    assert (code, status["reason"]) == (400, "BadRequest"), status
    assert status["message"] == (
        'Deployment in version "v1" cannot be handled as a Deployment: '
        f"json: cannot unmarshal {what} into Go struct field {field} of type {go_type}"
    )


async def test_a_quantity_has_a_form(api, make_deployment):
    body = change(make_deployment("web"), f"{POD}.containers.0.resources", {"limits": {"memory": "lots"}})
    code, _, status = await api.raw("POST", DEPLOYMENTS, body)
    assert code == 400
    assert "quantities must match the regular expression" in status["message"]


async def test_unknown_fields(api, make_deployment):
    body = change(make_deployment("web"), "spec.replicaz", 3)
    code, _, status = await api.raw("POST", f"{DEPLOYMENTS}?fieldValidation=Strict", body)
    assert code == 400
    assert status["message"].endswith('strict decoding error: unknown field "spec.replicaz"')
    code, headers, made = await api.raw("POST", DEPLOYMENTS, body)
    assert (code, headers["Warning"]) == (201, '299 - "unknown field \\"spec.replicaz\\""')
    assert "replicaz" not in made["spec"]
    code, headers, _ = await api.raw("PUT", f"{DEPLOYMENTS}/web?fieldValidation=Ignore", body)
    assert code == 200
    assert "Warning" not in headers
    code, _, _ = await api.raw("POST", f"{DEPLOYMENTS}?fieldValidation=Loose", body)
    assert code == 422


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b'{"metadata": 1}',
        b"\xff\xfe",
        b'{"spec": NaN}',
        b"[" * 5000,
        b'{"a":' * 300 + b"1" + b"}" * 300,
    ],
)
async def test_bodies_that_are_no_object(api, body):
    code, _, status = await api.raw("POST", DEPLOYMENTS, body)
    assert (code, status["reason"]) == (400, "BadRequest")


async def test_other_kinds_and_versions(api, make_deployment, make_pod):
    code, _, status = await api.raw("POST", DEPLOYMENTS, make_pod("x"))
    assert code == 400
    assert "cannot be handled as a Deployment" in status["message"]
    code, _, status = await api.raw("POST", DEPLOYMENTS, make_deployment("x") | {"apiVersion": "apps/v1beta1"})
    assert status["message"] == (
        "the API version in the data (apps/v1beta1) does not match the expected API version (apps/v1)"
    )


async def test_yaml_is_read(api):
    text = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: from-yaml}\ndata: {a: b}\n"
    path = f"/api/v1/namespaces/{STAGING}/configmaps"
    code, _, made = await api.raw("POST", path, text, Content_Type="application/yaml")
    assert (code, made["data"]) == (201, {"a": "b"})
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
    )
    for text in (b"a: [", b"a: &a [*a]", bomb.encode(), b"!!python/object:os.system {}"):
        code, _, _ = await api.raw("POST", path, text, Content_Type="application/yaml")
        assert code == 400, text


@pytest.mark.parametrize("kind", ["text/plain", "application/xml", "application/octet-stream"])
async def test_unsupported_bodies(api, make_deployment, kind):
    code, _, status = await api.raw("POST", DEPLOYMENTS, make_deployment("x"), Content_Type=kind)
    assert (code, status["reason"]) == (415, "UnsupportedMediaType")
    assert "the body of the request was in an unknown format - accepted media types include:" in status["message"]


@pytest.mark.parametrize("kind", ["application/json", "application/apply-patch+yaml", "text/plain"])
async def test_unsupported_patches(api, kind):
    code, _, status = await api.raw("PATCH", FRONTEND, {"spec": {}}, Content_Type=kind)
    assert (code, status["reason"]) == (415, "UnsupportedMediaType")
    assert "application/strategic-merge-patch+json" in status["message"]


async def test_unacceptable_answers(api):
    code, _, status = await api.raw("GET", FRONTEND, Accept="application/vnd.kubernetes.protobuf")
    assert (code, status["reason"]) == (406, "NotAcceptable")
    code, _, _ = await api.raw("GET", FRONTEND, Accept="application/vnd.kubernetes.protobuf,application/json")
    assert code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", DEPLOYMENTS), ("PATCH", DEPLOYMENTS), ("POST", FRONTEND), ("DELETE", f"{FRONTEND}/scale"),
        ("POST", f"{FRONTEND}/status"), ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
        ("DELETE", "/api/v1/namespaces"), ("POST", "/apis/apps/v1/deployments"), ("POST", "/api"),
        ("POST", f"/api/v1/namespaces/{STAGING}/pods/redis-0/log"),
        ("GET", f"/api/v1/namespaces/{STAGING}/pods/redis-0/eviction"),
    ],
)  # fmt: skip
async def test_methods_that_are_not_allowed(api, method, path):
    code, _, status = await api.raw(method, path, None if method == "GET" else {})
    assert (code, status["reason"]) == (405, "MethodNotAllowed")
    assert status["message"] == "the server does not allow this method on the requested resource"


@pytest.mark.parametrize("name", ["exec", "attach", "portforward", "proxy", "ephemeralcontainers"])
async def test_what_is_not_emulated_is_not_found(api, name):
    code, _, status = await api.raw("GET", f"/api/v1/namespaces/{STAGING}/pods/redis-0/{name}")
    assert (code, status["reason"]) == (404, "NotFound")


async def test_a_body_has_a_limit(api):
    body = json.dumps({"metadata": {"name": "big"}, "data": {"x": "y" * (3 * 1024 * 1024)}}).encode()
    code, _, status = await api.raw("POST", f"/api/v1/namespaces/{STAGING}/configmaps", body)
    assert (code, status["reason"]) == (413, "RequestEntityTooLarge")


async def test_a_config_map_has_a_smaller_one(api):
    body = {"metadata": {"name": "big"}, "data": {"x": "y" * (1024 * 1024 + 1)}}
    code, _, status = await api.raw("POST", f"/api/v1/namespaces/{STAGING}/configmaps", body)
    assert code == 422
    assert "Too long" in status["message"]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("configmaps", {"data": {"bad key": "x"}}, "a valid config key must consist of"),
        ("services", {"spec": {"type": "ClusterIP"}}, "spec.ports: Required value"),
        ("services", {"spec": {"ports": [{"port": 0}]}}, "spec.ports[0].port: Invalid value: 0"),
        ("persistentvolumeclaims", {"spec": {}}, "spec.accessModes: Required value"),
        ("events", {"involvedObject": {"namespace": "shop"}}, "does not match event.namespace"),
    ],
)
async def test_other_kinds_have_rules_too(api, path, body, expected):
    body = {"metadata": {"name": "x"}, **body}
    code, _, status = await api.raw("POST", f"/api/v1/namespaces/{STAGING}/{path}", body)
    assert code == 422
    assert expected in status["message"]


@pytest.mark.parametrize(
    ("group", "path", "body", "expected"),
    [
        (
            "autoscaling/v2", "horizontalpodautoscalers",
            {"spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "x"}}},
            "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
        ),
        ("policy/v1", "poddisruptionbudgets", {"spec": {"minAvailable": 1, "maxUnavailable": 1}}, "cannot be both set"),
        (RBAC, "roles", {"rules": [{"resources": ["pods"]}]}, "rules[0].verbs: Required value"),
        (RBAC, "rolebindings", {"roleRef": {"kind": "Roll"}}, "roleRef.kind: Unsupported value"),
        ("batch/v1", "cronjobs", {"spec": {"schedule": "often", "jobTemplate": {}}}, "expected exactly 5 fields"),
        ("apps/v1", "statefulsets", {"spec": {}}, "spec.selector: Required value"),
        ("apps/v1", "daemonsets", {"spec": {}}, "spec.selector: Required value"),
    ],
)  # fmt: skip
async def test_kinds_of_groups_have_rules_too(api, group, path, body, expected):
    body = {"metadata": {"name": "x"}, **body}
    code, _, status = await api.raw("POST", f"/apis/{group}/namespaces/{STAGING}/{path}", body)
    assert code == 422, status
    assert expected in status["message"]


async def test_nothing_was_an_accident(api, caplog):
    """None of these is a server error: odd shapes in places that decoding takes as they come."""
    odd = [1, "x", [], {}, [1], [[]], None, True]
    for value in odd:
        spec = {"containers": [{"name": "a", "image": "nginx", "envFrom": value}], "volumes": value}
        spec["tolerations"] = spec["affinity"] = value
        for path in (f"/api/v1/namespaces/{STAGING}/pods", "/apis/rbac.authorization.k8s.io/v1/clusterroles"):
            code, _, status = await api.raw(
                "POST", f"{path}?dryRun=All", {"metadata": {"name": "odd"}, "spec": spec, "rules": value}
            )
            assert code < 500, (value, status)
    assert "Traceback" not in caplog.text
