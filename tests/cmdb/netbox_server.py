"""A NetBox of recorded answers: pages, filters, ignores filters it does not know, wants a token, and fails on demand.
Which facts of the real one it keeps to: tests/cmdb/netbox/README.md."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aiohttp import web

RECORDED = Path(__file__).parent / "netbox"
V1_TOKEN = "0123456789abcdef0123456789abcdef01234567"
V2_TOKEN = "nbt_abcdefghijkl.0123456789abcdef0123456789abcdef01234567"
PATHS = (
    "dcim/sites", "dcim/locations", "dcim/devices", "dcim/interfaces", "virtualization/clusters",
    "virtualization/virtual-machines", "ipam/services", "tenancy/tenants", "tenancy/contacts",
    "tenancy/contact-assignments", "extras/custom-fields",
)  # fmt: skip

ASSETS = PATHS[:3] + PATHS[4:7]
"""The lists whose objects become assets."""

Found = dict[str, Any]
Test = Callable[[Found, list[str]], bool]


def _value(found: Any, *way: str) -> Any:
    for name in way:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _among(*way: str) -> Test:
    return lambda found, wanted: str(_value(found, *way)) in wanted


def _named(found: Found, wanted: list[str]) -> bool:
    return str(found.get("name") or "").lower() in [name.lower() for name in wanted]


def _begins(found: Found, wanted: list[str]) -> bool:
    return any(str(found.get("name") or "").lower().startswith(start.lower()) for start in wanted)


def _said(found: Found, wanted: list[str]) -> bool:
    texts = [str(found.get(name) or "") for name in ("name", "slug", "serial", "asset_tag", "description", "comments")]
    return any(wanted[-1].lower() in text.lower() for text in texts)


def _tagged(found: Found, wanted: list[str]) -> bool:
    return set(wanted) <= {tag["slug"] for tag in found.get("tags", [])}


def _since(found: Found, wanted: list[str]) -> bool:
    return datetime.fromisoformat(found["last_updated"]) >= datetime.fromisoformat(wanted[-1])


def _within(found: Found, wanted: list[str]) -> bool:
    return bool(found["_locations"] & set(wanted))


def _parent(type_: str, *way: str) -> Test:
    return lambda found, wanted: found.get("parent_object_type") == type_ and str(_value(found, *way)) in wanted


_EVERY: dict[str, Test] = {
    "id": _among("id"),
    "id__gt": lambda found, wanted: found["id"] > max(int(number) for number in wanted),
    "name": _among("name"),
    "name__isw": _begins,
    "q": _said,
    "tag": _tagged,
    "last_updated__gte": _since,
}
_STATUS: dict[str, Test] = {
    "status": _among("status", "value"),
    "status__n": lambda found, wanted: _value(found, "status", "value") not in wanted,
    "tenant": _among("tenant", "slug"),
}
_MACHINE: dict[str, Test] = {
    "site": _among("site", "slug"), "site_id": _among("site", "id"), "role": _among("role", "slug"),
    "platform": _among("platform", "slug"), "cluster_id": _among("cluster", "id"), "name": _named,
}  # fmt: skip
FILTERS: dict[str, dict[str, Test]] = {
    "dcim/sites": {**_EVERY, **_STATUS, "slug": _among("slug"), "region": _among("region", "slug")},
    "dcim/locations": {
        **_EVERY, **_STATUS, "slug": _among("slug"), "site": _among("site", "slug"), "site_id": _among("site", "id"),
        "parent_id": _among("parent", "id"),
    },
    "dcim/devices": {
        **_EVERY, **_STATUS, **_MACHINE, "location_id": _within,
        "parent_device_id": _among("parent_device", "id"),
    },
    "virtualization/virtual-machines": {
        **_EVERY, **_STATUS, **_MACHINE, "cluster": _among("cluster", "name"), "device_id": _among("device", "id"),
    },
    "virtualization/clusters": {
        **_EVERY, **_STATUS, "site": _among("_site", "slug"), "site_id": _among("_site", "id"),
        "location_id": _within,
    },
    "ipam/services": {
        **_EVERY, "device": _parent("dcim.device", "parent", "name"),
        "device_id": _parent("dcim.device", "parent_object_id"),
        "virtual_machine": _parent("virtualization.virtualmachine", "parent", "name"),
        "virtual_machine_id": _parent("virtualization.virtualmachine", "parent_object_id"),
    },
    "dcim/interfaces": {
        **_EVERY, "device_id": _among("device", "id"),
        "connected": lambda found, wanted: bool(found["connected_endpoints"]) == (wanted[-1] == "true"),
        "cabled": lambda found, wanted: bool(found["cable"]) == (wanted[-1] == "true"),
    },
    "tenancy/tenants": {**_EVERY, "slug": _among("slug")},
    "tenancy/contacts": _EVERY,
    "tenancy/contact-assignments": {
        **_EVERY, "object_type": _among("object_type"), "object_id": _among("object_id")
    },
    "extras/custom-fields": _EVERY,
}  # fmt: skip
"""By list, the filters that the real one has, of those that matter here; every other one it ignores."""
_STATUSES = {
    "dcim/sites": "planned staging active decommissioning retired",
    "dcim/locations": "planned staging active decommissioning retired",
    "virtualization/clusters": "planned staging active decommissioning offline",
    "dcim/devices": "offline active planned staged failed inventory decommissioning maintenance",
    "virtualization/virtual-machines": "offline active planned staged failed decommissioning paused",
}
"""The last of devices' is one that was configured."""


@dataclass
class FakeNetBox:
    """What it has, who may read it, and how it fails."""

    data: dict[str, list[Found]] = field(default_factory=dict)
    url: str = ""
    version: str = "4.7.3"
    forbidden: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    """Filters it ignores beside those it does not have."""
    page_max: int = 1_000
    faults: list[Callable[[web.Request], web.StreamResponse | None]] = field(default_factory=list)
    """Asked first, each once, in order; None: answers as ever."""
    asked: list[str] = field(default_factory=list)
    written: list[tuple[str, str, Found]] = field(default_factory=list)

    def of(self, path: str, key: int) -> Found:
        """An object."""
        return next(found for found in self.data[path] if found["id"] == key)


def recorded() -> dict[str, list[Found]]:
    """A fresh copy of the recorded lists."""
    return {path: json.loads((RECORDED / f"{path.replace('/', '.')}.json").read_text())["results"] for path in PATHS}


@asynccontextmanager
async def serving(netbox: FakeNetBox | None = None, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[FakeNetBox]:
    """It on a free port."""
    fake = netbox or FakeNetBox(recorded())
    app = web.Application()

    async def answer(request: web.Request) -> web.StreamResponse:
        return await _answer(fake, request)

    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    host, port = runner.addresses[0][:2]
    fake.url = f"https://localhost:{port}" if tls else f"http://{host}:{port}"
    try:
        yield fake
    finally:
        await runner.cleanup()


async def _answer(fake: FakeNetBox, request: web.Request) -> web.StreamResponse:
    fake.asked.append(str(request.rel_url))
    if fake.faults:
        failed = fake.faults.pop(0)(request)
        if asyncio.iscoroutine(failed):
            failed = await failed
        if failed is not None:
            return failed
    parts = request.path.strip("/").split("/")
    if parts[0] != "api" or not request.path.endswith("/"):
        return web.Response(status=404, text="<html>Page Not Found</html>", content_type="text/html")
    refused = _let_in(request)
    if refused:
        return _json({"detail": refused}, 403)
    if parts[1:] == ["status"]:
        return _json({"django-version": "6.1.2", "netbox-version": fake.version, "plugins": {}})
    path, key = "/".join(parts[1:3]), parts[3] if len(parts) > 3 else None
    if path not in fake.data:
        return web.Response(status=404, text="<html>Page Not Found</html>", content_type="text/html")
    if path in fake.forbidden:
        return _json({"detail": "You do not have permission to perform this action."}, 403)
    if request.method in {"PATCH", "POST"}:
        return await _write(fake, request, path, key)
    if key is not None:
        found = next((item for item in fake.data[path] if str(item["id"]) == key), None)
        return _json(_chosen(found, request)) if found else _json({"detail": "No Device matches the given query."}, 404)
    return _list(fake, request, path)


def _let_in(request: web.Request) -> str:
    given = request.headers.get("Authorization", "")
    if not given:
        return "Authentication credentials were not provided."
    if given in (f"Token {V1_TOKEN}", f"Bearer {V2_TOKEN}"):
        return ""
    return f"Invalid v{2 if 'nbt_' in given else 1} token"


def _list(fake: FakeNetBox, request: web.Request, path: str) -> web.Response:
    found = [item | _derived(fake, item) for item in fake.data[path]]
    custom = {f"cf_{item['name']}": item["name"] for item in fake.data["extras/custom-fields"]}
    for name in dict.fromkeys(request.query):
        wanted = request.query.getall(name)
        if name in fake.deaf:
            continue
        if name in custom:
            own = custom[name]
            found = [item for item in found if str(_plain(_value(item, "custom_fields", own))) in wanted]
            continue
        test = FILTERS[path].get(name)
        if test is None:
            continue  # as the real one does
        known = _choices(fake, path).get(name)
        strange = [value for value in wanted if known is not None and value not in known]
        if strange:
            # Nothing is matched by what nothing has: it is refused, and with it the values that are known.
            text = f"Select a valid choice. {strange[0]} is not one of the available choices."
            return _json({name: [text]}, 400)
        found = [item for item in found if test(item, wanted)]
    if request.query.get("ordering") == "id":
        found.sort(key=lambda item: item["id"])
    limit = min(int(request.query.get("limit", 50)), fake.page_max)
    start = int(request.query.get("offset", 0))
    more = len(found) > start + limit
    # The real one tells the host it was asked by: behind a proxy, one that nobody outside knows.
    following = f"http://netbox.internal/api/{path}/?limit={limit}&offset={start + limit}" if more else None
    results = [_chosen(fake.of(path, item["id"]), request) for item in found[start : start + limit]]
    return _json({"count": len(found), "next": following, "previous": None, "results": results})


def _choices(fake: FakeNetBox, path: str) -> dict[str, set[str]]:
    """Filters that take only what there is."""
    everything = [item for items in fake.data.values() for item in items]

    def slugs(name: str) -> set[str]:
        return {item[name]["slug"] for item in everything if isinstance(item.get(name), dict)}

    statuses = set(_STATUSES.get(path, "").split())
    numbers = {name: {str(item["id"]) for item in fake.data[path]} for name, path in _NUMBERED.items()}
    if path == "ipam/services":
        numbers = {}
    return numbers | {
        "status": statuses,
        "status__n": statuses,
        "site": {item["slug"] for item in fake.data["dcim/sites"]},
        "tenant": {item["slug"] for item in fake.data["tenancy/tenants"]},
        "cluster": {item["name"] for item in fake.data["virtualization/clusters"]},
        "tag": {tag["slug"] for item in everything for tag in item.get("tags", [])},
        "role": slugs("role"),
        "platform": slugs("platform"),
        "region": slugs("region"),
    }


_NUMBERED = {
    "site_id": "dcim/sites", "location_id": "dcim/locations", "parent_id": "dcim/locations",
    "cluster_id": "virtualization/clusters", "device_id": "dcim/devices", "parent_device_id": "dcim/devices",
}  # fmt: skip


def _derived(fake: FakeNetBox, item: Found) -> Found:
    """Where it is, with everything around that: the real one keeps a tree of it."""
    places = {place["id"]: place for place in fake.data["dcim/locations"]}
    scoped = item.get("scope_type") == "dcim.location"
    at = places.get(item["scope"]["id"] if scoped else _value(item, "location", "id"))
    site = at["site"] if scoped and at else item.get("scope") if item.get("scope_type") == "dcim.site" else None
    around: set[str] = set()
    while at is not None:
        around.add(str(at["id"]))
        at = places.get(_value(at, "parent", "id"))
    return {"_locations": around, "_site": site or item.get("site")}


def _plain(value: Any) -> Any:
    return value.get("value") if isinstance(value, dict) else value


def _chosen(found: Found, request: web.Request) -> Found:
    names = request.query.get("fields")
    return {name: value for name, value in found.items() if name in names.split(",")} if names else found


_LISTS = {
    "cluster": "virtualization/clusters", "site": "dcim/sites", "device": "dcim/devices", "tenant": "tenancy/tenants"
}  # fmt: skip


async def _write(fake: FakeNetBox, request: web.Request, path: str, key: str | None) -> web.Response:
    body = await request.json()
    fake.written.append((request.method, f"{path}/{key or ''}", body))
    existing = {item["name"] for item in fake.data["extras/custom-fields"]}
    strange = set(body.get("custom_fields", {})) - existing
    if strange:
        name = min(strange)
        return _json({"custom_fields": {name: f"Custom field '{name}' does not exist for this object type."}}, 400)
    if key is not None and "If-Match" in request.headers:
        changed = datetime.fromisoformat(fake.of(path, int(key))["last_updated"]).isoformat()
        if request.headers["If-Match"] != f'W/"{changed}"':
            return _json({"detail": "Precondition failed."}, 412)
    if key is None:
        made = {"id": max(item["id"] for item in fake.data[path]) + 1, "tags": [], "custom_fields": {}}
        fake.data[path].append(made)
    else:
        made = fake.of(path, int(key))
    for name, value in body.items():
        if name == "custom_fields":
            made["custom_fields"] = made["custom_fields"] | value
        elif name == "status":
            made["status"] = {"value": value, "label": value.title()}
        elif name in _LISTS:
            made[name] = {
                k: v for k, v in fake.of(_LISTS[name], value).items() if k in ("id", "name", "slug", "display")
            }
        else:
            made[name] = value
    made["last_updated"] = "2026-11-21T09:00:00Z"
    return _json(made, 201 if key is None else 200)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.json_response(body, status=status, headers={"API-Version": "4.7"})
