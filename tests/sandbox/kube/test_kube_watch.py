"""Watches: what is there, what changes, what comes to match, bookmarks, ends, and histories that are gone."""

import asyncio
import json

import pytest
from kubernetes.aio import watch
from kubernetes.aio.client import ApiException

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def more_settings():
    return {"bookmark_every_s": 0.2}


def config_map(name, labels=None, **data):
    return {"metadata": {"name": name, "labels": labels or {}}, "data": data}


async def events(api, path, count):
    """The first events of a watch, raw."""
    found = []
    async with asyncio.timeout(30), api.session.get(path) as answer:
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            found.append(json.loads(line))
            if len(found) == count:
                break
    return found


async def test_official_watch_sees_a_life(api):
    listed = await api.core.list_namespaced_config_map("default")
    seen = []

    async def live():
        await api.core.create_namespaced_config_map("default", config_map("one", a="1"))
        await api.core.patch_namespaced_config_map("one", "default", {"data": {"a": "2"}})
        await api.core.delete_namespaced_config_map("one", "default")

    async with asyncio.TaskGroup() as group, watch.Watch() as watcher:
        group.create_task(live())
        async with asyncio.timeout(30):
            stream = watcher.stream(
                api.core.list_namespaced_config_map, "default", resource_version=listed.metadata.resource_version
            )
            async for event in stream:
                seen.append((event["type"], event["object"].data["a"]))
                if event["type"] == "DELETED":
                    break
    assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


async def test_without_a_version_it_begins_with_what_is_there(api, cluster):
    there = [p["metadata"]["name"] for p in cluster.store.list("pods", "payments")]
    seen = await events(api, "/api/v1/namespaces/payments/pods?watch=1", len(there))
    assert [event["object"]["metadata"]["name"] for event in seen] == there
    assert {event["type"] for event in seen} == {"ADDED"}
    # The typed objects of a watch carry their kind, as the API's do.
    assert seen[0]["object"]["kind"] == "Pod"


async def test_deprecated_watch_path(api):
    (seen,) = await events(api, "/api/v1/watch/namespaces/shop/services?timeoutSeconds=5", 1)
    assert seen["type"] == "ADDED"


async def test_selectors_turn_changes_into_coming_and_going(api, cluster):
    await api.core.create_namespaced_config_map("default", config_map("mover", {"room": "a"}))
    path = f"{MAPS}?watch=true&labelSelector=room=b&resourceVersion={cluster.store.version}"
    waiting = asyncio.create_task(events(api, path, 3))
    for room in ("b", "b", "c"):
        await api.core.patch_namespaced_config_map(
            "mover", "default", {"metadata": {"labels": {"room": room}}, "data": {"n": str(cluster.store.version)}}
        )
    assert [event["type"] for event in await waiting] == ["ADDED", "MODIFIED", "DELETED"]


async def test_field_selector_watches_one(api, cluster):
    path = f"{MAPS}?watch=true&fieldSelector=metadata.name=second&resourceVersion={cluster.store.version}"
    waiting = asyncio.create_task(events(api, path, 1))
    for name in ("first", "second"):
        await api.core.create_namespaced_config_map("default", config_map(name))
    assert (await waiting)[0]["object"]["metadata"]["name"] == "second"


async def test_bookmarks(api, cluster):
    version = cluster.store.version
    path = f"/apis/batch/v1/cronjobs?watch=true&allowWatchBookmarks=true&resourceVersion={version}"
    (mark,) = await events(api, path, 1)
    assert mark["type"] == "BOOKMARK"
    assert int(mark["object"]["metadata"]["resourceVersion"]) >= version


async def test_streaming_list_ends_its_first_part_with_a_bookmark(api):
    path = "/api/v1/nodes?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    seen = await events(api, path, 5)
    assert [event["type"] for event in seen] == ["ADDED"] * 4 + ["BOOKMARK"]
    assert seen[-1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    code, _, _ = await api.raw("GET", "/api/v1/nodes?watch=1&sendInitialEvents=true")
    assert code == 422


async def test_timeout_ends_it(api, cluster):
    code, _, body = await api.raw("GET", f"{MAPS}?watch=1&timeoutSeconds=1&resourceVersion={cluster.store.version}")
    assert (code, body) == (200, "")


async def test_too_old(api, cluster):
    path = f"{MAPS}?watch=1&resourceVersion={cluster.store.version}"
    await api.core.create_namespaced_config_map("default", config_map("newer"))
    cluster.store.compact()
    (event,) = await events(api, path, 1)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    async with watch.Watch() as watcher:
        stream = watcher.stream(api.core.list_namespaced_config_map, "default", resource_version="1")
        with pytest.raises(ApiException) as caught:
            await anext(aiter(stream))
    assert caught.value.status == 410


async def test_table_watch(api):
    headers = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    path = "/api/v1/namespaces/shop/pods?watch=1&timeoutSeconds=5"
    async with api.session.get(path, headers=headers) as answer:
        event = json.loads(await answer.content.readline())
    assert event["object"]["kind"] == "Table"
    assert len(event["object"]["rows"]) == 1


@pytest.mark.parametrize(
    "query", ["watch=perhaps", "watch=1&resourceVersion=x", "watch=1&timeoutSeconds=soon", "watch=1&labelSelector=a b"]
)
async def test_bad_parameters(api, query):
    code, _, status = await api.raw("GET", f"{MAPS}?{query}")
    if query == "watch=perhaps":
        assert code == 200  # as the real server: no boolean, no watch
    else:
        assert (code, status["reason"]) == (400, "BadRequest")


async def test_open_watches_do_not_keep_the_cluster_from_closing(api, cluster):
    waiting = asyncio.create_task(events(api, f"{MAPS}?watch=1&resourceVersion={cluster.store.version}", 1))
    await api.core.list_node()
    async with asyncio.timeout(30):
        await cluster.close()
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
    assert outcome == [] or isinstance(outcome, Exception)
