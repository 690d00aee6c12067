"""Controller revisions: the history of stateful and daemon sets, as kubectl rollout history reads it."""

from kubernetes.aio.client.exceptions import ApiException


async def revisions(api, namespace, app):
    found = await api.apps.list_namespaced_controller_revision(namespace, label_selector=f"app={app}")
    return sorted(found.items, key=lambda item: item.revision)


async def test_the_story_has_a_history(api):
    old, new = await revisions(api, "shop", "redis")
    images = [item.data["spec"]["template"]["spec"]["containers"][0]["image"] for item in (old, new)]
    assert (images, old.revision, new.revision) == (["redis:7.2.4", "redis:7.2.5"], 1, 2)
    assert old.metadata.creation_timestamp < new.metadata.creation_timestamp
    redis = await api.apps.read_namespaced_stateful_set("redis", "shop")
    assert redis.status.update_revision == new.metadata.name
    assert new.metadata.owner_references[0].uid == redis.metadata.uid
    (only,) = await revisions(api, "platform", "node-exporter")
    assert only.data["spec"]["template"]["$patch"] == "replace"


async def test_a_change_makes_a_revision_and_a_rollback_renumbers_the_old_one(api, cluster, until):
    def numbers():
        found = cluster.store.list("controllerrevisions", "shop")
        return {
            item["data"]["spec"]["template"]["spec"]["containers"][0]["image"]: item["revision"]
            for item in found
            if item["metadata"]["ownerReferences"][0]["name"] == "redis"
        }

    def change(image):
        containers = [{"name": "redis", "image": image}]
        body = {"spec": {"template": {"spec": {"containers": containers}}}}
        return api.apps.patch_namespaced_stateful_set(
            "redis", "shop", body, _content_type="application/strategic-merge-patch+json"
        )

    await change("redis:7.4.0")
    await until(lambda: numbers() == {"redis:7.2.4": 1, "redis:7.2.5": 2, "redis:7.4.0": 3})
    await change("redis:7.2.5")
    await until(lambda: numbers() == {"redis:7.2.4": 1, "redis:7.2.5": 4, "redis:7.4.0": 3})


async def test_revisions_go_with_their_owner_and_cannot_be_written(api, cluster, until):
    (revision, _) = await revisions(api, "shop", "redis")
    code, _, _ = await api.raw(
        "PATCH",
        f"/apis/apps/v1/namespaces/shop/controllerrevisions/{revision.metadata.name}",
        {"revision": 9},
        Content_Type="application/merge-patch+json",
    )
    assert code == 405
    await api.apps.delete_namespaced_stateful_set("redis", "shop")
    await until(lambda: not cluster.store.list("controllerrevisions", "shop"))


async def test_only_so_many_are_kept(api, cluster, until):
    body = {"spec": {"revisionHistoryLimit": 1, "template": {"metadata": {"annotations": {"n": "1"}}}}}
    merge = {"_content_type": "application/merge-patch+json"}
    await api.apps.patch_namespaced_stateful_set("redis", "shop", body, **merge)
    await until(lambda: [r["revision"] for r in cluster.store.list("controllerrevisions", "shop")] in ([2, 3], [3, 2]))


async def test_readers_may_read_them_and_strangers_not(login):
    viewer = await login("opsbus", user="v@shop.example", groups=("opsbus:viewer",))
    assert len(await revisions(viewer, "shop", "redis")) == 2
    stranger = await login("opsbus", user="s@shop.example")
    try:
        await revisions(stranger, "shop", "redis")
    except ApiException as error:
        assert error.status == 403  # noqa: PT017
    else:
        raise AssertionError("a stranger read them")


async def test_kubectl_shows_the_history(kubectl):
    told = await kubectl("-n", "shop", "rollout", "history", "statefulset/redis")
    assert told.code == 0, told.err
    assert [line.split()[0] for line in told.out.splitlines()[2:4]] == ["1", "2"]
    table = await kubectl("-n", "shop", "get", "controllerrevisions")
    assert "statefulset.apps/redis" in table.out
