"""Getting and listing: selectors, pages, moments in time, and both shapes of events and autoscalers."""

import pytest
from kubernetes.aio.client import ApiException, AutoscalingV1Api, AutoscalingV2Api, EventsV1Api


async def names(awaitable):
    return {item.metadata.name for item in (await awaitable).items}


async def refused(awaitable):
    import json

    with pytest.raises(ApiException) as caught:
        await awaitable
    return json.loads(caught.value.body)


async def test_get_and_not_found(api):
    found = await api.apps.read_namespaced_deployment("checkout", "shop")
    assert found.spec.template.spec.containers[0].image.endswith("checkout:v2.4.1")
    status = await refused(api.apps.read_namespaced_deployment("checkot", "shop"))
    assert status["message"] == 'deployments.apps "checkot" not found'
    assert status["details"] == {"name": "checkot", "group": "apps", "kind": "deployments"}
    assert (status["code"], status["reason"], status["status"]) == (404, "NotFound", "Failure")


async def test_lists_by_namespace_and_everywhere(api):
    shop = await names(api.core.list_namespaced_pod("shop"))
    everywhere = await names(api.core.list_pod_for_all_namespaces())
    assert shop < everywhere
    assert (await api.core.list_namespaced_pod("no-such-namespace")).items == []


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("team=checkout", {"cart", "checkout"}),
        ("team==checkout", {"cart", "checkout"}),
        ("team!=checkout", {"catalog", "frontend", "recommendations"}),
        ("team in (checkout, catalog)", {"cart", "catalog", "checkout"}),
        ("team notin (checkout,catalog)", {"frontend", "recommendations"}),
        ("team,tier=web", {"frontend"}),
        ("!team", set()),
        ("no-such-label", set()),
        ("", {"cart", "catalog", "checkout", "frontend", "recommendations"}),
    ],
)
async def test_label_selectors(api, selector, expected):
    assert await names(api.apps.list_namespaced_deployment("shop", label_selector=selector)) == expected


@pytest.mark.parametrize(
    "selector", ["a b", "team in", "team=checkout,", "=x", "team=a=b", "-bad-=x", "team=sp ace", "team=x%0A!"]
)
async def test_bad_label_selectors(api, selector):
    status = await refused(api.core.list_namespaced_pod("shop", label_selector=selector))
    assert status["code"] == 400
    assert "unable to parse requirement" in status["message"]


async def test_field_selectors(api, cluster):
    running = await names(api.core.list_namespaced_pod("shop", field_selector="status.phase=Running"))
    assert running
    assert not any(name.startswith("nightly") for name in running)
    pending = await names(api.core.list_pod_for_all_namespaces(field_selector="status.phase=Pending,spec.nodeName="))
    assert len(pending) == 1
    node = cluster.store.list("pods", "shop")[0]["spec"]["nodeName"]
    there = await names(api.core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}"))
    assert there == {p["metadata"]["name"] for p in cluster.store.list("pods") if p["spec"].get("nodeName") == node}
    only = await names(api.core.list_service_for_all_namespaces(field_selector="metadata.name=redis"))
    assert only == {"redis"}
    (one,) = pending
    events = await api.core.list_namespaced_event("shop", field_selector=f"involvedObject.name={one},type=Warning")
    assert [event.reason for event in events.items] == ["FailedScheduling"]


async def test_unknown_field_selectors(api):
    status = await refused(api.core.list_namespaced_pod("shop", field_selector="spec.color=red"))
    assert (status["code"], status["message"]) == (400, "field label not supported: spec.color")
    status = await refused(api.apps.list_namespaced_deployment("shop", field_selector="spec.replicas=1"))
    assert "is not a known field selector" in status["message"]
    assert (await refused(api.core.list_namespaced_pod("shop", field_selector="nonsense")))["code"] == 400


async def test_pages_are_of_one_moment(api, cluster):
    whole = [p["metadata"]["name"] for p in cluster.store.list("pods")]
    seen, token, versions = [], None, set()
    while True:
        page = await api.core.list_pod_for_all_namespaces(limit=7, _continue=token)
        if not seen:
            assert page.metadata.remaining_item_count == len(whole) - 7
            # Whatever happens between two pages is not seen: they all show the moment of the first.
            await api.core.delete_namespaced_pod(page.items[-1].metadata.name, page.items[-1].metadata.namespace)
            await api.core.create_namespaced_pod(
                "default",
                {"metadata": {"name": "a-new-one"}, "spec": {"containers": [{"name": "a", "image": "nginx"}]}},
            )
        versions.add(page.metadata.resource_version)
        seen += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
        assert len(page.items) == 7
    assert seen == whole
    assert len(versions) == 1


async def test_an_expired_token_says_so_and_offers_another(api, cluster):
    first = await api.core.list_pod_for_all_namespaces(limit=5)
    await api.core.create_namespaced_config_map("default", {"metadata": {"name": "something-newer"}})
    cluster.store.compact()
    status = await refused(api.core.list_pod_for_all_namespaces(limit=5, _continue=first.metadata._continue))
    assert (status["code"], status["reason"]) == (410, "Expired")
    assert status["message"].startswith("The provided continue parameter is too old")
    rest = await api.core.list_pod_for_all_namespaces(_continue=status["metadata"]["continue"])
    everything = await api.core.list_pod_for_all_namespaces()
    assert len(rest.items) + 5 == len(everything.items)


@pytest.mark.parametrize("token", ["garbage", "e30", "bnVsbA", "eyJydiI6MSwic3RhcnQiOiJ4In0", "%%%"])
async def test_bad_tokens(api, token):
    status = await refused(api.core.list_namespaced_pod("shop", limit=5, _continue=token))
    assert status["code"] == 400
    assert "continue key is not valid" in status["message"]


async def test_limit_must_be_a_natural_number(api):
    code, _, status = await api.raw("GET", "/api/v1/pods?limit=many")
    assert (code, status["message"]) == (400, 'strconv.ParseInt: parsing "many": invalid syntax')
    code, _, status = await api.raw("GET", "/api/v1/pods?limit=-1")
    assert code == 422


async def test_exact_version(api, cluster):
    before = await api.core.list_namespaced_config_map("default")
    await api.core.create_namespaced_config_map("default", {"metadata": {"name": "later"}})
    version = before.metadata.resource_version
    again = await api.core.list_namespaced_config_map(
        "default", resource_version=version, resource_version_match="Exact"
    )
    assert [item.metadata.name for item in again.items] == [item.metadata.name for item in before.items]
    status = await refused(api.core.list_namespaced_config_map("default", resource_version="99999999"))
    assert status["code"] == 504
    status = await refused(api.core.list_namespaced_config_map("default", resource_version="abc"))
    assert status["code"] == 400
    cluster.store.compact()
    status = await refused(
        api.core.list_namespaced_config_map("default", resource_version=version, resource_version_match="Exact")
    )
    assert status["code"] == 410


async def test_events_have_two_doors(api):
    while True:  # until both show the same moment: events are counted on
        listed = await api.core.list_namespaced_event("shop")
        again = await EventsV1Api(api.client).list_namespaced_event("shop")
        if listed.metadata.resource_version == again.metadata.resource_version:
            break
    old = {event.metadata.name: event for event in listed.items}
    new = {event.metadata.name: event for event in again.items}
    assert old.keys() == new.keys()
    for name, event in old.items():
        assert new[name].note == event.message
        assert new[name].regarding.name == event.involved_object.name
        assert new[name].deprecated_count == event.count
    code, _, body = await api.raw(
        "GET", "/apis/events.k8s.io/v1/namespaces/shop/events?fieldSelector=regarding.kind=HorizontalPodAutoscaler"
    )
    assert code == 200
    assert [event["reason"] for event in body["items"]] == ["SuccessfulRescale"]


async def test_an_event_written_by_the_new_door_is_read_by_the_old(api):
    body = {
        "metadata": {"name": "note", "namespace": "default"}, "regarding": {"kind": "Pod", "namespace": "default"},
        "note": "seen", "type": "Normal", "reason": "Test", "action": "Look", "reportingController": "tests",
        "reportingInstance": "1", "eventTime": "2026-11-20T12:00:00.000000Z",
    }  # fmt: skip
    await EventsV1Api(api.client).create_namespaced_event("default", body)
    read = await api.core.read_namespaced_event("note", "default")
    assert (read.message, read.involved_object.kind) == ("seen", "Pod")


async def test_autoscalers_have_two_versions(api):
    v2 = await AutoscalingV2Api(api.client).read_namespaced_horizontal_pod_autoscaler("checkout", "shop")
    assert v2.status.desired_replicas == v2.spec.max_replicas == 6
    assert {c.reason for c in v2.status.conditions} >= {"TooManyReplicas"}
    v1api = AutoscalingV1Api(api.client)
    v1 = await v1api.read_namespaced_horizontal_pod_autoscaler("checkout", "shop")
    assert v1.spec.target_cpu_utilization_percentage == 70
    assert v1.status.current_cpu_utilization_percentage == 93
    v1.spec.target_cpu_utilization_percentage = 80
    await v1api.replace_namespaced_horizontal_pod_autoscaler("checkout", "shop", v1)
    v2 = await AutoscalingV2Api(api.client).read_namespaced_horizontal_pod_autoscaler("checkout", "shop")
    assert v2.spec.metrics[0].resource.target.average_utilization == 80


async def test_secrets_have_data(api):
    secret = await api.core.read_namespaced_secret("checkout-payments", "shop")
    assert set(secret.data) == {"username", "password"}
