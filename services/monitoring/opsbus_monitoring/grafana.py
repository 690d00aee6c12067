"""Grafana's dashboard API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsbus_monitoring.backend import Backend, BackendError

SYSTEM = "Grafana"


class Grafana:
    """Dashboards, folders, data sources."""

    def __init__(
        self, url: str, *, token: str = "", headers: Mapping[str, str] | None = None, timeout_s: float = 10.0
    ) -> None:
        self.backend = Backend(SYSTEM, url, setting="GRAFANA_URL", token=token, headers=headers, timeout_s=timeout_s)

    async def close(self) -> None:
        """End the session."""
        await self.backend.close()

    async def health(self) -> dict[str, Any]:
        """Version and database state."""
        found = await self.backend.get("/api/health")
        return found if isinstance(found, dict) else {}

    async def search(self, words: str = "", limit: int = 500) -> list[dict[str, Any]]:
        """Dashboards whose title holds the words."""
        found = await self.backend.get("/api/search", {"type": "dash-db", "query": words, "limit": str(limit)})
        return found if isinstance(found, list) else []

    async def dashboard(self, uid: str) -> dict[str, Any] | None:
        """``{meta, dashboard}``; None when there is none of that uid."""
        try:
            found = await self.backend.get(f"/api/dashboards/uid/{uid}")
        except BackendError as error:
            if error.code == "not_found":
                return None
            raise
        if not isinstance(found, dict) or not isinstance(found.get("dashboard"), dict):
            raise BackendError(
                SYSTEM,
                "unavailable",
                "Grafana answered JSON of another shape than its API's.",
                hint=f"Is GRAFANA_URL ({self.backend.base_url}) a Grafana?",
            )
        return {**found, "meta": found["meta"] if isinstance(found.get("meta"), dict) else {}}

    async def dashboard_version(self, uid: str, version: int) -> dict[str, Any] | None:
        """The dashboard as it was saved under that number; None when Grafana does not have it any more."""
        try:
            found = await self.backend.get(f"/api/dashboards/uid/{uid}/versions/{version}")
        except BackendError as error:
            if error.code == "not_found":
                return None
            raise
        data = found.get("data") if isinstance(found, dict) else None
        return data if isinstance(data, dict) else None

    async def save(self, dashboard: dict[str, Any], *, folder_uid: str, message: str) -> dict[str, Any]:
        """Create or update by uid; the version inside guards against a change in between (conflict)."""
        body = {"dashboard": dashboard, "folderUid": folder_uid, "message": message, "overwrite": False}
        found: dict[str, Any] = await self.backend.write("POST", "/api/dashboards/db", body)
        return found

    async def folders(self) -> list[dict[str, Any]]:
        """All folders."""
        found = await self.backend.get("/api/folders")
        return found if isinstance(found, list) else []

    async def datasources(self) -> list[dict[str, Any]]:
        """Data sources with uid and type."""
        found = await self.backend.get("/api/datasources")
        return found if isinstance(found, list) else []
