"""The announcement: a manifest in the bucket CATALOG, put again and again while the instance lives.

Reading it is the edge's matter.
"""

import asyncio
from contextlib import suppress
from datetime import datetime

from nats import errors
from nats.js import JetStreamContext
from nats.js.kv import KeyValue

from opsbus import tasks
from opsbus.logs import Log
from opsbus.metrics import WorkerMetrics
from opsbus.worker import Worker
from opsbus_contracts import Manifest
from opsbus_contracts.catalog import CATALOG_TTL_S, MANIFEST_BYTES_MAX
from opsbus_contracts.streams import CATALOG

EVERY_S = CATALOG_TTL_S / 3
RETRY_S = 0.25


class Announcer:
    """Keeps one instance in the catalogue."""

    def __init__(
        self,
        js: JetStreamContext,
        worker: Worker,
        *,
        instance: str,
        started: datetime,
        concurrency: int,
        metrics_url: str | None,
        log: Log,
        metrics: WorkerMetrics,
    ) -> None:
        self._js = js
        self._worker = worker
        self._instance = instance
        self._started = started
        self._concurrency = concurrency
        self._metrics_url = metrics_url
        self._log = log
        self._metrics = metrics
        self._bucket: KeyValue | None = None
        self._again = asyncio.Event()
        self._there = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def manifest(self) -> Manifest:
        """What is announced."""
        return Manifest(
            service=self._worker.name,
            instance=self._instance,
            version=self._worker.version,
            title=self._worker.title,
            description=self._worker.description,
            started_at=self._started,
            concurrency=self._concurrency,
            metrics_url=self._metrics_url,
            **self._worker.registry.offer(),
        )

    async def start(self) -> None:
        """Announces; returns when the catalogue has it, however long the bucket takes to be there.

        Raises:
            ValueError: the manifest is over the bound.
        """
        self._body()
        self._task = asyncio.create_task(self._keep())
        await self._there.wait()

    async def stop(self) -> None:
        """Takes the instance out of the catalogue."""
        if self._task is None:
            return
        await tasks.end(self._task)
        self._task = None
        try:
            if self._bucket is not None:
                await asyncio.wait_for(self._bucket.delete(self._key), 2.0)
        except (errors.Error, TimeoutError) as error:
            self._log.warning("not_withdrawn", error=type(error).__name__, hint="It leaves the catalogue by its age.")

    def changed(self) -> None:
        """Announces at once."""
        self._again.set()

    @property
    def _key(self) -> str:
        return f"{self._worker.name}.{self._instance}"

    def _body(self) -> bytes:
        body = self.manifest().model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(body) > MANIFEST_BYTES_MAX:
            raise ValueError(f"the manifest has {len(body)} bytes, {MANIFEST_BYTES_MAX} are allowed: describe less")
        return body

    async def _keep(self) -> None:
        said = False
        while True:
            self._again.clear()
            try:
                if self._bucket is None:
                    self._bucket = await self._js.key_value(CATALOG.name)
                await asyncio.wait_for(self._bucket.put(self._key, self._body()), 2.0)
                self._metrics.announcements.labels("ok").inc()
                self._there.set()
                wait_s, said = EVERY_S, False
            except (errors.Error, TimeoutError, ValueError) as error:
                self._metrics.announcements.labels("failed").inc()
                if not said:
                    hint = "Is the bus provisioned? Run: opsbus provision"
                    self._log.warning("not_announced", error=str(error) or type(error).__name__, hint=hint)
                wait_s, said = RETRY_S, True
            with suppress(TimeoutError):
                await asyncio.wait_for(self._again.wait(), wait_s)
