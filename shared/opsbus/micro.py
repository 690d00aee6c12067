"""NATS service discovery (ADR-32): PING, INFO and STATS on ``$SRV``, so that ``nats micro`` sees every worker.

Calls are not its matter.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from opsbus.broker import is_inbox
from opsbus.registry import Registry

VERBS = ("PING", "INFO", "STATS")
TYPE = "io.nats.micro.v1.{}_response"

_SEMVER = re.compile(r"^\d+\.\d+\.\d+([-+][0-9A-Za-z.+-]+)?$")


class EndpointStats:
    """Numbers of one endpoint."""

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.processing_ns = 0


class Stats:
    """Numbers by subject; subjects that are no endpoint are not counted."""

    def __init__(self) -> None:
        self._by_subject: dict[str, EndpointStats] = {}

    def count(self, subject: str, duration_s: float, error: str) -> None:
        """A call ended."""
        stats = self._by_subject.get(subject)
        if stats is None:
            return
        stats.requests += 1
        stats.processing_ns += int(duration_s * 1e9)
        if error:
            stats.errors += 1
            stats.last_error = error

    def of(self, subject: str) -> EndpointStats:
        """The numbers of an endpoint, from now on counted."""
        return self._by_subject.setdefault(subject, EndpointStats())


class Discovery:
    """Answers for one instance."""

    def __init__(
        self,
        client: Client,
        registry: Registry,
        stats: Stats,
        *,
        instance: str,
        version: str,
        description: str,
        started: datetime,
    ) -> None:
        self._client = client
        self._registry = registry
        self._stats = stats
        self._started = started
        self._description = description
        self._identity = {
            "name": registry.service,
            "id": instance,
            "version": version if _SEMVER.fullmatch(version) else "0.0.0",
            "metadata": {"opsbus": "1", "opsbus.version": version},
        }
        self._subscriptions: list[Subscription] = []
        for subject, _ in self._endpoints():
            stats.of(subject)

    async def start(self) -> None:
        """Listens on ``$SRV.<verb>[.<name>[.<id>]]``."""
        replies: dict[str, Callable[[], dict[str, Any]]] = {
            "PING": self._ping,
            "INFO": self._info,
            "STATS": self._statistics,
        }
        name, instance = self._identity["name"], self._identity["id"]
        for verb, reply in replies.items():
            for subject in (f"$SRV.{verb}", f"$SRV.{verb}.{name}", f"$SRV.{verb}.{name}.{instance}"):
                self._subscriptions.append(await self._client.subscribe(subject, cb=self._responder(reply)))

    async def stop(self) -> None:
        """Listens no more."""
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()

    def _responder(self, reply: Callable[[], dict[str, Any]]) -> Any:
        async def respond(msg: Msg) -> None:
            if is_inbox(msg.reply):
                await self._client.publish(msg.reply, orjson.dumps(reply()))

        return respond

    def _ping(self) -> dict[str, Any]:
        return {"type": TYPE.format("ping"), **self._identity}

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {"name": name, "subject": subject, "queue_group": self._registry.service, "metadata": {}}
            for subject, name in self._endpoints()
        ]
        return {
            "type": TYPE.format("info"),
            **self._identity,
            "description": self._description,
            "endpoints": endpoints,
        }

    def _statistics(self) -> dict[str, Any]:
        endpoints = []
        for subject, name in self._endpoints():
            stats = self._stats.of(subject)
            endpoints.append(
                {
                    "name": name,
                    "subject": subject,
                    "queue_group": self._registry.service,
                    "num_requests": stats.requests,
                    "num_errors": stats.errors,
                    "last_error": stats.last_error,
                    "processing_time": stats.processing_ns,
                    "average_processing_time": stats.processing_ns // max(1, stats.requests),
                    "data": None,
                }
            )
        started = self._started.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"type": TYPE.format("stats"), **self._identity, "started": started, "endpoints": endpoints}

    def _endpoints(self) -> list[tuple[str, str]]:
        service = self._registry.service
        tools = [(f"tool.{service}.{name}", name) for name in self._registry.tools]
        methods = ["resources_read"] * bool(self._registry.resources or self._registry.templates)
        methods += ["prompts_get"] * bool(self._registry.prompts)
        methods += ["completion_complete"] * bool(self._registry.completers)
        return tools + [(f"mcp.{service}.{method}", method) for method in methods]
