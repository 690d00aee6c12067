"""Dashboards, folders, search and data sources, with Grafana's status codes and words."""

from __future__ import annotations

import copy
import re
import uuid
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from opsbus_sandbox.alerts.silences import stamp
from opsbus_sandbox.grafana.builtin import DASHBOARDS

DATASOURCE = {"id": 1, "uid": "prometheus", "name": "Prometheus", "type": "prometheus", "access": "proxy"}
_SLUG = re.compile(r"[^a-z0-9]+")


@dataclass
class Stored:
    """A dashboard with what Grafana keeps beside it."""

    id: int
    folder_uid: str
    dashboard: dict[str, Any]
    created: float
    updated: float
    versions: dict[int, dict[str, Any]] = field(default_factory=dict)
    """As each was saved, by its number."""


class Refused(Exception):  # noqa: N818 - it is an answer, not a failure
    """An answer other than 2xx."""

    def __init__(self, http_status: int, message: str, **more: str) -> None:
        super().__init__(message)
        self.http_status, self.body = http_status, {"message": message, **more}


class GrafanaApi:
    """One instance per estate; with ``token`` set, every call must bear it."""

    def __init__(self, clock: Any, token: str = "") -> None:
        self.clock, self.token = clock, token
        self.folders: dict[str, str] = {}
        self.stored: dict[str, Stored] = {}
        for dashboard in DASHBOARDS:
            self._save({"dashboard": dashboard, "overwrite": True})

    def routes(self) -> list[web.RouteDef]:
        """All routes, relative to the API's root."""
        return [
            web.get("/api/health", self.health),
            web.get("/api/search", self._guarded(self.search)),
            web.post("/api/dashboards/db", self._guarded(self.save)),
            web.get("/api/dashboards/uid/{uid}", self._guarded(self.get)),
            web.get("/api/dashboards/uid/{uid}/versions/{version}", self._guarded(self.version)),
            web.delete("/api/dashboards/uid/{uid}", self._guarded(self.delete)),
            web.get("/api/folders", self._guarded(self.list_folders)),
            web.post("/api/folders", self._guarded(self.add_folder)),
            web.get("/api/datasources", self._guarded(self.datasources)),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """Always well."""
        return web.json_response({"database": "ok", "version": "11.3.0-opsbus-sandbox", "commit": ""})

    async def search(self, request: web.Request) -> Any:
        """Dashboards by words in the title, tags and folder."""
        words = request.query.get("query", "").lower()
        tags = set(request.query.getall("tag", []))
        found = [
            item
            for item in self.stored.values()
            if words in item.dashboard["title"].lower() and tags <= set(item.dashboard.get("tags", []))
        ]
        limit = int(request.query.get("limit", "1000"))
        return [self._hit(item) for item in sorted(found, key=lambda i: str(i.dashboard["title"]))[:limit]]

    async def save(self, request: web.Request) -> Any:
        """Create or update by uid."""
        return self._save(await _json(request))

    async def get(self, request: web.Request) -> Any:
        """A dashboard and its meta."""
        item = self._find(request.match_info["uid"])
        meta = {
            "url": _url(item),
            "slug": _slug(item.dashboard["title"]),
            "version": item.dashboard["version"],
            "folderUid": item.folder_uid,
            "folderTitle": self.folders.get(item.folder_uid, "General"),
            "created": stamp(item.created),
            "updated": stamp(item.updated),
            "canSave": True,
        }
        return {"meta": meta, "dashboard": item.dashboard}

    async def version(self, request: web.Request) -> Any:
        """A dashboard as it was saved once."""
        item, number = self._find(request.match_info["uid"]), request.match_info["version"]
        known = item.versions.get(int(number)) if number.isascii() and number.isdigit() else None
        if known is None:
            raise Refused(404, "Dashboard version not found")
        return {"dashboardId": item.id, "uid": known["uid"], "version": int(number), "data": known}

    async def delete(self, request: web.Request) -> Any:
        """Remove a dashboard."""
        item = self._find(request.match_info["uid"])
        del self.stored[item.dashboard["uid"]]
        title = item.dashboard["title"]
        return {"title": title, "message": f"Dashboard {title} deleted", "id": item.id}

    async def list_folders(self, request: web.Request) -> Any:
        """All folders."""
        return [{"id": n, "uid": uid, "title": title} for n, (uid, title) in enumerate(self.folders.items(), 1)]

    async def add_folder(self, request: web.Request) -> Any:
        """A new folder."""
        body = await _json(request)
        title = str(body.get("title") or "").strip()
        if not title:
            raise Refused(400, "folder title cannot be empty")
        uid = str(body.get("uid") or uuid.uuid4().hex[:12])
        if uid in self.folders or title in self.folders.values():
            raise Refused(412, "a folder with the same name or uid already exists", status="precondition-failed")
        self.folders[uid] = title
        return {"id": len(self.folders), "uid": uid, "title": title, "version": 1}

    async def datasources(self, request: web.Request) -> Any:
        """The one data source."""
        return [DATASOURCE]

    def _save(self, body: dict[str, Any]) -> dict[str, Any]:
        dashboard = body.get("dashboard")
        if not isinstance(dashboard, dict) or not str(dashboard.get("title") or "").strip():
            raise Refused(400, "Dashboard title cannot be empty", status="empty-name")
        dashboard = copy.deepcopy(dashboard)
        folder = str(body.get("folderUid") or "")
        if folder and folder not in self.folders:
            raise Refused(400, "folder not found", status="not-found")
        uid = str(dashboard.get("uid") or uuid.uuid4().hex[:14])
        if not re.fullmatch(r"[a-zA-Z0-9_-]{1,40}", uid):
            raise Refused(400, "uid contains illegal characters or is longer than 40", status="invalid-uid")
        known, overwrite = self.stored.get(uid), bool(body.get("overwrite"))
        self._check_conflicts(dashboard, uid, folder, known, overwrite=overwrite)
        now = self.clock()
        number = known.id if known else max((item.id for item in self.stored.values()), default=0) + 1
        version = known.dashboard["version"] + 1 if known else 1
        dashboard |= {"id": number, "uid": uid, "version": version}
        versions = {**(known.versions if known else {}), version: dashboard}
        stored = Stored(number, folder, dashboard, known.created if known else now, now, versions)
        self.stored[uid] = stored
        slug = _slug(dashboard["title"])
        return {"id": number, "uid": uid, "url": _url(stored), "status": "success", "version": version, "slug": slug}

    def _check_conflicts(
        self, dashboard: dict[str, Any], uid: str, folder: str, known: Stored | None, *, overwrite: bool
    ) -> None:
        if overwrite:
            return
        if known and dashboard.get("version") != known.dashboard["version"]:
            raise Refused(412, "The dashboard has been changed by someone else", status="version-mismatch")
        for other in self.stored.values():
            same = other.dashboard["title"] == dashboard["title"] and other.folder_uid == folder
            if same and other.dashboard["uid"] != uid:
                raise Refused(412, "A dashboard with the same name in the folder already exists", status="name-exists")

    def _find(self, uid: str) -> Stored:
        item = self.stored.get(uid)
        if item is None:
            raise Refused(404, "Dashboard not found")
        return item

    def _hit(self, item: Stored) -> dict[str, Any]:
        return {
            "id": item.id,
            "uid": item.dashboard["uid"],
            "title": item.dashboard["title"],
            "url": _url(item),
            "type": "dash-db",
            "tags": item.dashboard.get("tags", []),
            "folderUid": item.folder_uid,
            "folderTitle": self.folders.get(item.folder_uid, ""),
        }

    def _guarded(self, method: Any) -> Any:
        async def handler(request: web.Request) -> web.Response:
            if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
                return web.json_response({"message": "Unauthorized"}, status=401)
            try:
                return web.json_response(await method(request))
            except Refused as refused:
                return web.json_response(refused.body, status=refused.http_status)
            except ValueError:
                return web.json_response({"message": "bad request data"}, status=400)

        return handler


async def _json(request: web.Request) -> dict[str, Any]:
    body = await request.json()
    if not isinstance(body, dict):
        raise Refused(400, "bad request data")
    return body


def _slug(title: str) -> str:
    return _SLUG.sub("-", title.lower()).strip("-")


def _url(item: Stored) -> str:
    return f"/d/{item.dashboard['uid']}/{_slug(item.dashboard['title'])}"
