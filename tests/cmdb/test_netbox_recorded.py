"""The recorded answers against our models, and the server that serves them against what the real one answered."""

import json
from typing import Any

import aiohttp
import netbox_server  # of this folder, by conftest.py
import pytest
from netbox_server import V1_TOKEN, V2_TOKEN
from pydantic import BaseModel

from opsbus_cmdb.netbox import mapping, schema
from opsbus_cmdb.netbox.client import NetBox

ASKED: list[dict[str, Any]] = json.loads((netbox_server.RECORDED / "asked.json").read_text())
BEFORE = {"Cluster": {"site"}, "Service": {"device", "virtual_machine"}}
"""Fields of versions before 4.7."""
MODELS: dict[str, type[BaseModel]] = {
    **{kind.path: kind.model for kind in mapping.KINDS},
    "dcim/interfaces": schema.Interface,
    "tenancy/tenants": schema.Tenant,
    "tenancy/contacts": schema.Contact,
    "tenancy/contact-assignments": schema.ContactAssignment,
    "extras/custom-fields": schema.CustomField,
}


@pytest.mark.parametrize("path", MODELS)
def test_what_we_read_is_what_it_says_field_by_field(path: str) -> None:
    model = MODELS[path]
    for item in netbox_server.recorded()[path]:
        assert set(model.model_fields) - set(item) == BEFORE.get(model.__name__, set())
        read = model.model_validate(item)
        for name in model.model_fields:
            said, kept = item.get(name), getattr(read, name)
            if isinstance(said, str | int | float | bool | None) and not hasattr(kept, "isoformat"):
                assert kept == said, (path, name)


def test_every_kind_has_objects_and_what_is_rare_is_among_them() -> None:
    data = netbox_server.recorded()
    assert all(data[path] for path in MODELS)
    assert {item["status"]["value"] for item in data["dcim/devices"]} >= {"maintenance", "inventory", "failed"}
    assert any(item["name"] is None for item in data["dcim/devices"])
    assert any(item["protocol"] is None and item["port_mappings"] for item in data["ipam/services"])


async def test_the_server_answers_as_the_real_one_did() -> None:
    """Status, count and ids of each; of errors the body too."""
    async with netbox_server.serving() as fake, aiohttp.ClientSession() as session:
        for row in ASKED:
            headers = {"Authorization": f"Bearer {V2_TOKEN}"}
            async with session.get(f"{fake.url}/api/{row['ask']}", headers=headers) as response:
                found: dict[str, Any] = {"ask": row["ask"], "status": response.status, "kind": response.content_type}
                body = await response.json() if response.content_type == "application/json" else None
            if body and "results" in body:
                ids = sorted(item["id"] for item in body["results"])
                found |= {"count": body["count"], "ids": ids, "next": bool(body["next"])}
            elif response.status != 200 and body is not None:
                found["body"] = body
            if "ordering" not in row["ask"] and row.get("next"):
                found["ids"] = row["ids"]  # its own order, of which we ask for none
            assert found == row


async def test_a_value_that_nothing_has_does_not_hide_those_that_something_has() -> None:
    """The real one refuses all of them."""
    async with netbox_server.serving() as fake, NetBox(fake.url, V1_TOKEN) as netbox:

        async def ids(*params: tuple[str, str]) -> list[int]:
            page = await netbox.page("dcim/devices", schema.Device, list(params), 50)
            assert page.count == await netbox.count("dcim/devices", list(params)) == len(page.results)
            return [item.id for item in page.results]

        failed = await ids(("status", "failed"))
        assert failed
        assert await ids(("status", "failed"), ("status", "bogus")) == failed
        assert await ids(("status", "bogus")) == []
        everything = await ids()
        assert await ids(("status__n", "bogus")) == everything
        assert await ids(("tenant", "nosuch"), ("status", "failed")) == []
        assert sorted({*await ids(("tenant", "shop-team"), ("tenant", "nosuch"))}) == await ids(("tenant", "shop-team"))
