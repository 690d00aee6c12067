"""Alertmanager's API v2."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from opsbus_monitoring.backend import Backend, BackendError

SYSTEM = "Alertmanager"
SILENCE_STATES = ("active", "pending", "expired")


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
        return [self._whole(item) for item in self._list(await self.backend.get("/api/v2/silences", params))]

    async def silence(self, silence_id: str) -> dict[str, Any]:
        """One silence.

        Raises:
            BackendError: ``not_found``.
        """
        return self._whole(self._object(await self.backend.get(f"/api/v2/silence/{quote(silence_id, safe='')}")))

    async def create_silence(self, body: dict[str, Any]) -> str:
        """Stores a silence; its id. Tried once: who is not answered must look whether it is there."""
        return str(self._object(await self.backend.write("POST", "/api/v2/silences", body)).get("silenceID", ""))

    async def expire_silence(self, silence_id: str) -> None:
        """Ends a silence now. Alertmanager keeps it, as expired."""
        await self.backend.write("DELETE", f"/api/v2/silence/{quote(silence_id, safe='')}")

    async def status(self) -> dict[str, Any]:
        """Version, cluster and uptime."""
        found = await self.backend.get("/api/v2/status")
        return found if isinstance(found, dict) else {}

    def _list(self, found: Any) -> list[dict[str, Any]]:
        if isinstance(found, list) and all(isinstance(item, dict) for item in found):
            return found
        raise self._another_shape()

    def _object(self, found: Any) -> dict[str, Any]:
        if isinstance(found, dict):
            return found
        raise self._another_shape()

    def _whole(self, silence: dict[str, Any]) -> dict[str, Any]:
        status, matchers = silence.get("status"), silence.get("matchers")
        times = (silence.get("startsAt"), silence.get("endsAt"))
        state = status.get("state") if isinstance(status, dict) else None
        if state in SILENCE_STATES and silence.get("id") and isinstance(matchers, list) and all(map(_is_time, times)):
            return silence
        raise self._another_shape()

    def _another_shape(self) -> BackendError:
        return BackendError(
            SYSTEM,
            "unavailable",
            "Alertmanager answered JSON of another shape than its API's.",
            hint=f"Is ALERTMANAGER_URL ({self.backend.base_url}) an Alertmanager with API v2?",
        )


def _is_time(text: Any) -> bool:
    try:
        return datetime.fromisoformat(str(text)).tzinfo is not None
    except ValueError:
        return False
