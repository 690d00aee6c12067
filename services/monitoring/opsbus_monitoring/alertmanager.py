"""Alertmanager's API v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opsbus_monitoring.backend import Backend, BackendError

SYSTEM = "Alertmanager"


class Alertmanager:
    """Alerts and silences as the API words them."""

    def __init__(
        self, url: str, *, token: str = "", headers: Mapping[str, str] | None = None, timeout_s: float = 10.0
    ) -> None:
        self.backend = Backend(
            SYSTEM, url, setting="ALERTMANAGER_URL", token=token, headers=headers, timeout_s=timeout_s
        )

    async def close(self) -> None:
        """End the session."""
        await self.backend.close()

    async def alerts(
        self, matchers: list[str] | None = None, *, active: bool = True, silenced: bool = True, inhibited: bool = True
    ) -> list[dict[str, Any]]:
        """Alerts that all matchers (``severity="critical"``) hold for."""
        flags = {"active": active, "silenced": silenced, "inhibited": inhibited}
        params = [("filter", text) for text in matchers or []] + [(k, str(v).lower()) for k, v in flags.items()]
        return self._list(await self.backend.get("/api/v2/alerts", params))

    async def silences(self, matchers: list[str] | None = None) -> list[dict[str, Any]]:
        """Silences, the expired among them."""
        params = [("filter", text) for text in matchers or []]
        return self._list(await self.backend.get("/api/v2/silences", params))

    async def status(self) -> dict[str, Any]:
        """Version, cluster and uptime."""
        found = await self.backend.get("/api/v2/status")
        return found if isinstance(found, dict) else {}

    def _list(self, found: Any) -> list[dict[str, Any]]:
        if isinstance(found, list):
            return found
        raise BackendError(
            SYSTEM,
            "unavailable",
            "Alertmanager answered JSON of another shape than its API's.",
            hint=f"Is ALERTMANAGER_URL ({self.backend.base_url}) an Alertmanager with API v2?",
        )
