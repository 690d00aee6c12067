"""The Grafana face: upsert by uid, versions, folders, refusals."""

from typing import Any

import pytest

BOARD = {"uid": "orders", "title": "Orders", "panels": []}


async def save(api: Any, **body: Any) -> tuple[int, Any]:
    found: tuple[int, Any] = await api.call("POST", "/grafana/api/dashboards/db", json={"dashboard": BOARD, **body})
    return found


async def test_create_update_and_delete(api: Any) -> None:
    status, made = await save(api)
    assert (status, made["version"], made["url"]) == (200, 1, "/d/orders/orders")
    status, again = await save(api, dashboard={**BOARD, "version": 1, "tags": ["new"]})
    assert (status, again["version"], again["id"]) == (200, 2, made["id"])
    _, read = await api.call("GET", "/grafana/api/dashboards/uid/orders")
    assert (read["dashboard"]["tags"], read["meta"]["version"]) == (["new"], 2)
    assert (await api.call("DELETE", "/grafana/api/dashboards/uid/orders"))[0] == 200
    assert (await api.call("GET", "/grafana/api/dashboards/uid/orders"))[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"dashboard": {"title": ""}}, 400, "empty-name"),
        ({"dashboard": 3}, 400, "empty-name"),
        ({"folderUid": "none"}, 400, "not-found"),
        ({"dashboard": {**BOARD, "uid": "a b"}}, 400, "invalid-uid"),
        ({"dashboard": {"uid": "shop-red", "title": "Mine", "version": 99}}, 412, "version-mismatch"),
        ({"dashboard": {"uid": "other", "title": "Nodes: utilisation"}}, 412, "name-exists"),
    ],
)
async def test_refusals_as_grafana_words_them(api: Any, body: dict[str, Any], status: int, word: str) -> None:
    got, answer = await save(api, **body)
    assert (got, answer["status"]) == (status, word)


async def test_overwrite_beats_a_version_mismatch(api: Any) -> None:
    status, _ = await save(api, dashboard={"uid": "shop-red", "title": "Mine", "version": 99}, overwrite=True)
    assert status == 200


async def test_folders_search_and_datasources(api: Any) -> None:
    assert (await api.call("POST", "/grafana/api/folders", json={"uid": "sre", "title": "SRE"}))[0] == 200
    assert (await api.call("POST", "/grafana/api/folders", json={"title": "SRE"}))[0] == 412
    assert (await api.call("POST", "/grafana/api/folders", json={"title": ""}))[0] == 400
    await save(api, folderUid="sre")
    _, hits = await api.call("GET", "/grafana/api/search", params={"query": "orders"})
    assert [(hit["uid"], hit["folderTitle"]) for hit in hits] == [("orders", "SRE")]
    _, sources = await api.call("GET", "/grafana/api/datasources")
    assert sources[0]["uid"] == "prometheus"


async def test_each_version_is_kept_as_it_was_saved(api: Any) -> None:
    await save(api)
    await save(api, dashboard={**BOARD, "version": 1, "tags": ["new"]})
    for version, tags in ((1, None), (2, ["new"])):
        status, found = await api.call("GET", f"/grafana/api/dashboards/uid/orders/versions/{version}")
        assert (status, found["version"], found["data"].get("tags")) == (200, version, tags)
    for path in ("orders/versions/3", "orders/versions/x", "none/versions/1"):
        assert (await api.call("GET", f"/grafana/api/dashboards/uid/{path}"))[0] == 404
