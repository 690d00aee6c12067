"""One running instance of a worker: what its parts are, in which order they start, and how it drains.

Signals are process.py's.
"""

import asyncio
import secrets
import time
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

# isort: off
from opsbus import uvicorn_light  # noqa: F401 - before faststream

# isort: on
from nats import errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from pydantic import ValidationError

from opsbus import execute, logs, shadow, tracing
from opsbus.announce import Announcer
from opsbus.broker import CallBroker
from opsbus.call import Call
from opsbus.confirm import Confirmations
from opsbus.events import Audit, Events
from opsbus.gate import Gate
from opsbus.health import Health
from opsbus.idempotency import Idempotency
from opsbus.identity import Verifier
from opsbus.keys import BucketKeys
from opsbus.logs import Log
from opsbus.metrics import WorkerMetrics
from opsbus.micro import Discovery, Stats
from opsbus.nats_client import ConnectError, connect, error_kind
from opsbus.nats_quick import QuickClient
from opsbus.quarantine import Quarantines, told
from opsbus.settings import Settings
from opsbus.toolerror import ToolError
from opsbus.worker import Worker
from opsbus_contracts import Cancel, ErrorCode
from opsbus_contracts.access import Quarantine, QuarantineKind
from opsbus_contracts.names import mcp_name
from opsbus_contracts.subjects import cancel_subject

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

QUARANTINE_START_S = 15.0
QUARANTINE_STALE_S = 60.0
"""A worker that has not heard of the bucket for this long takes no calls. Seconds."""

_STREAM = "Nats-Stream"
"""Header that JetStream puts on what it sends out of a stream."""


class Runtime:
    """An instance. ``start`` returns when it is ready, ``stop`` when everything it took is answered."""

    def __init__(self, worker: Worker, settings: Settings, *, tracer_provider: "TracerProvider | None" = None) -> None:
        self.worker = worker
        self.settings = settings
        self.instance = f"{worker.name.replace('_', '-')}-{secrets.token_hex(4)}"
        self.started = datetime.now(UTC)
        self.log = logs.get(worker.name, instance=self.instance)
        self.metrics = WorkerMetrics(worker.name, worker.version)
        self.gate = Gate(settings.concurrency, settings.queue)
        self.stats = Stats()
        self.calls: set[Call] = set()
        self.state: Any = None
        self.ready = False
        self.faults: dict[str, str] = {}
        """What is wrong for good, by name, in one line each: while there is any, /ready is red."""
        self.client: QuickClient
        self._traces = tracer_provider
        self._stack = AsyncExitStack()
        self._health = Health(settings.http_host, settings.http_port, self._check, self.metrics.text)
        self._announcer: Announcer | None = None
        self._connected = False
        self._stopping: asyncio.Future[None] | None = None
        self.lost = asyncio.Event()
        """Set when the connection was closed for good, which reconnecting cannot mend."""

    @property
    def http_url(self) -> str:
        """Where /live, /ready and /metrics answer."""
        return self._health.url

    async def start(self) -> None:
        """Starts all parts; when it returns, a request is answered and the catalogue has the instance.

        Raises:
            ConnectError, SettingsError: NATS, or the HTTP address, cannot be used with these settings.
        """
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        self._trace()
        self.metrics.in_flight.set_function(lambda: self.gate.in_flight)
        self.metrics.queue.set_function(lambda: self.gate.waiting)
        self.metrics.ready.set_function(lambda: float(self._check()[0]))
        await self._health.start()
        self._stack.push_async_callback(self._health.stop)
        self._broker = CallBroker(
            self._connect,
            shadow.subjects(self.worker.name, self.settings.shadow),
            self.worker.name,
            self._handle,
            at_once=self.settings.concurrency + self.settings.queue,
            middlewares=self.tracing.middlewares,
        )
        self.client = await self._broker.connect()
        self._connected = True
        self._stack.push_async_callback(self._broker.stop)
        self.js = self.client.jetstream()
        self._parts(self.js)
        self._stack.push_async_callback(self.quarantines.watch.stop)
        try:
            await self.quarantines.watch.start(QUARANTINE_START_S)
        except TimeoutError:
            raise ConnectError(
                f"NATS at {self.settings.nats_url} has no bucket QUARANTINE; run 'opsbus provision'"
            ) from None
        if self.worker.lifespan_function is not None:
            self.state = await self._stack.enter_async_context(self.worker.lifespan_function(self.settings))
        self._discovery = self._discover()
        if self.settings.shadow:
            # No part of the platform: neither announced nor found, so that no edge sends it anything.
            await self._broker.start()
            self.ready = True
            return
        await self.client.subscribe(cancel_subject(self.worker.name), cb=self._cancel)
        await self._discovery.start()
        await self._broker.start()
        await self._announce()

    def _trace(self) -> None:
        endpoint = self.settings.otel_exporter_otlp_endpoint
        if self._traces is None and endpoint:
            self._traces = tracing.provider(self.worker.name, self.instance, self.worker.version, endpoint)
            self._stack.push_async_callback(asyncio.to_thread, self._traces.shutdown)
        self.tracing = tracing.Tracing(self._traces)

    def _parts(self, js: JetStreamContext) -> None:
        name, instance, lost = self.worker.name, self.instance, self._lost
        keys = shadow.keys(self.settings) if self.settings.shadow else BucketKeys(js)
        self.verifier = Verifier(keys, name)
        self.idempotency = Idempotency(js, name, instance, self.log)
        self.confirmations = Confirmations(js, name)
        self.events = Events(js, name, instance, self.log, lost)
        self.audit = Audit(js, name, instance, self.worker.version, self.log, lost)
        self.audit.start()
        self.quarantines = Quarantines(self.client, self._shut_out)
        self._stack.push_async_callback(self.audit.stop, 3.0)

    def _discover(self) -> Discovery:
        return Discovery(
            self.client,
            self.worker.registry,
            self.stats,
            instance=self.instance,
            version=self.worker.version,
            description=self.worker.description,
            started=self.started,
        )

    async def _announce(self) -> None:
        self._announcer = Announcer(
            self.js,
            self.worker,
            instance=self.instance,
            started=self.started,
            concurrency=self.settings.concurrency,
            metrics_url=f"{self._health.public_url}/metrics",
            log=self.log,
            metrics=self.metrics,
        )
        await self._announcer.start()
        self.ready = True
        self.worker.runtimes.add(self)

    async def stop(self) -> None:
        """Leaves the catalogue, takes no more calls, answers those it has, and closes. Twice is once."""
        if self._stopping is None:
            self._stopping = asyncio.ensure_future(self._stop())
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        self.ready = False
        self.worker.runtimes.discard(self)
        ends = time.monotonic() + self.settings.drain_timeout_s
        if self._announcer is not None:
            await self._announcer.stop()
        with suppress(errors.Error):  # a connection that is gone has no subscriptions to take back
            await self._discovery.stop()
        if not await self._broker.drain(max(0.0, ends - time.monotonic())):
            self.log.warning("drain_timeout", calls=len(self.calls))
            for call in tuple(self.calls):
                call.cancel("the worker is shutting down", ErrorCode.UNAVAILABLE)
            await self._broker.drain(3.0)
        await self._stack.aclose()

    def announce_changed(self) -> None:
        """The catalogue is put again at once."""
        if self._announcer is not None:
            self._announcer.changed()

    def log_of(self, call: Call) -> Log:
        """A logger with the call's and the trace's id."""
        return self.log.bind(call=call.id[:64], trace_id=call.trace_id)

    async def _handle(self, msg: Msg) -> tuple[bytes, dict[str, str]]:
        return await execute.answer(self, msg)

    async def _connect(self) -> QuickClient:
        return await connect(
            self.settings,
            self.worker.name,
            name=self.instance,
            on_error=self._nats_error,
            on_reconnected=self._reconnected,
            on_disconnected=self._disconnected,
            on_closed=self._closed,
        )

    def _nats_error(self, error: Exception) -> None:
        kind = error_kind(error)
        self.metrics.nats_errors.labels(kind).inc()
        write = self.log.error if kind == "permission" else self.log.warning
        write("nats_error", kind=kind, error=str(error)[:300] or type(error).__name__)

    async def _reconnected(self) -> None:
        self._connected = True
        self.metrics.reconnects.inc()
        self.log.info("reconnected")
        self.announce_changed()

    async def _disconnected(self) -> None:
        self._connected = False

    async def _closed(self) -> None:
        self._connected = False
        if self._stopping is None and self.ready:
            self.log.error("connection_closed", hint="NATS ended it for good; the process ends to be started anew.")
            self.lost.set()

    def check_quarantine(self, call: Call, tool: str) -> None:
        """Refuse what is shut out: this instance, its service, the tool, the caller.

        Raises:
            ToolError: ``quarantined``, or ``unavailable`` when that cannot be told.
        """
        if self.quarantines.watch.age_s > QUARANTINE_STALE_S:
            raise ToolError(
                ErrorCode.UNAVAILABLE, "whether this is quarantined cannot be told at this moment", retry_after_ms=2_000
            )
        if not self.quarantines.any:
            return
        found = self.quarantines.find(
            (QuarantineKind.WORKER, self.instance),
            (QuarantineKind.SERVICE, self.worker.name),
            (QuarantineKind.TOOL, _mcp_name(self.worker.name, tool)),
            (QuarantineKind.CALLER, call.caller.sub),
        )
        if found is not None:
            raise ToolError(ErrorCode.QUARANTINED, told(found), hint="Ask the platform's operators.")

    def _shut_out(self, begun: Quarantine) -> None:
        """End the running calls that a quarantine is about."""
        mine = {QuarantineKind.WORKER: self.instance, QuarantineKind.SERVICE: self.worker.name}
        for call in tuple(self.calls):
            about = mine.get(begun.kind)
            if about is None and begun.kind is QuarantineKind.TOOL:
                about = _mcp_name(self.worker.name, call.label)
            elif about is None and begun.kind is QuarantineKind.CALLER and call.identity is not None:
                about = call.identity.sub
            if about == begun.target:
                call.cancel(told(begun), ErrorCode.QUARANTINED)

    async def _cancel(self, msg: Msg) -> None:
        if _STREAM in (msg.headers or {}):
            return  # the value of a key, sent here as JetStream's answer by whoever asked for it
        try:
            cancel = Cancel.model_validate_json(msg.data)
        except ValidationError:
            self.log.warning("bad_cancel", bytes=len(msg.data))
            return
        for call in tuple(self.calls):
            if call.id == cancel.call:
                call.cancel(cancel.reason)

    def _lost(self, family: str) -> None:
        self.metrics.lost_events.labels(family).inc()

    def _check(self) -> tuple[bool, dict[str, Any]]:
        connected = self._connected and self.client.is_connected
        facts = {
            "service": self.worker.name,
            "instance": self.instance,
            "version": self.worker.version,
            "nats": connected,
            "announced": self.ready,
            "in_flight": self.gate.in_flight,
            "queue": self.gate.waiting,
        }
        if self.faults:
            facts["faults"] = dict(self.faults)
        return self.ready and connected and not self.faults, facts


def _mcp_name(service: str, label: str) -> str:
    try:
        return mcp_name(service, label)
    except ValueError:
        return ""
