"""The record copied into Elasticsearch or OpenSearch, in bulk: for those whose eyes are on a SIEM already.

A copy, never the record: it proves nothing, and what it does not take is kept waiting in the stream. The document's id
is the event's place in the stream, so that what is sent twice is there once.
"""

import json
import ssl
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import aiohttp

from opsbus.logs import Log
from opsbus.settings import SettingsError
from opsbus_audit.partitions import month_of
from opsbus_audit.record import Stored, row
from opsbus_audit.settings import AuditSettings
from opsbus_audit.store import Written

BULK_BYTES_MAX = 5 * 1024 * 1024
"""Of one request; what Elastic advises."""

_CREATED, _CONFLICT, _TOO_MANY = 201, 409, 429
_FIELDS = (
    "subject", "unreadable", "fault", "event_id", "event_source", "emitter", "stage", "call", "actor", "method", "tool",
    "service", "mutating", "outcome", "executed", "error",
)  # fmt: skip
_KEYWORD = {"type": "keyword", "ignore_above": 512}
MAPPING: dict[str, Any] = {
    "dynamic": False,
    "properties": {
        "@timestamp": {"type": "date"},
        "stream": _KEYWORD,
        "sequence": {"type": "long"},
        "unreadable": {"type": "boolean"},
        "mutating": {"type": "boolean"},
        "text": {"type": "text"},
        # Kept as it is, not indexed: callers' arguments would make a field each.
        "event": {"type": "object", "enabled": False},
        **{name: _KEYWORD for name in _FIELDS if name not in ("unreadable", "mutating")},
    },
}


class SinkError(OSError):
    """The search engine does not take a batch; it is tried again. No address and no secret in it."""


class Prepared(NamedTuple):
    """A batch as it is sent."""

    bodies: list[bytes]
    unreadable: int


class SearchSink:
    """Appends batches to a search engine's ``_bulk``. Open with ``create``, end with ``close``.

    Args:
        url: Of the engine: ``https://user:password@host:9200``.
        index: Prefix of the indices; the month follows: ``opsbus-audit-2026.11``.
        api_key: Elastic's API key; empty: none.
        tls: Whom to trust; None: the system's certificates.
        timeout_s: Of a request. Seconds.
    """

    def __init__(
        self, url: str, index: str, api_key: str, tls: ssl.SSLContext | None, timeout_s: float, log: Log
    ) -> None:
        self._url = url.rstrip("/")
        self._index = index
        self._headers = {"Authorization": f"ApiKey {api_key}"} if api_key else {}
        self._tls = tls
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._log = log
        self._session: aiohttp.ClientSession | None = None
        self._template = False

    async def close(self) -> None:
        """Give the connections back."""
        if self._session is not None:
            await self._session.close()

    def prepare(self, messages: Sequence[Stored]) -> Prepared:
        """The bodies of the requests that index messages."""
        return Prepared(list(_parts(messages, self._index)), sum(row(message)["unreadable"] for message in messages))

    def join(self, parts: Sequence[Prepared]) -> Prepared:
        """The bodies of all, in their order, in as few requests as the bound allows."""
        bodies: list[bytearray] = []
        for body in (body for part in parts for body in part.bodies):
            if bodies and len(bodies[-1]) + len(body) <= BULK_BYTES_MAX:
                bodies[-1] += body
            else:
                bodies.append(bytearray(body))
        return Prepared([bytes(body) for body in bodies], sum(part.unreadable for part in parts))

    async def append(self, prepared: Prepared) -> Written:
        """Index a batch, each message once.

        Raises:
            SinkError: not all of it is known to be indexed.
        """
        if not self._template:
            await self._put_template()
        new = 0
        for body in prepared.bodies:
            for item in await self._bulk(body):
                new += item["create"]["status"] == _CREATED
        return Written(new=new, unreadable=prepared.unreadable, duplicates=0)

    async def _put_template(self) -> None:
        body = {"index_patterns": [f"{self._index}-*"], "template": {"mappings": MAPPING}, "priority": 200}
        await self._request("PUT", f"/_index_template/{self._index}", json.dumps(body).encode(), "application/json")
        self._template = True

    async def _bulk(self, body: bytes) -> list[dict[str, Any]]:
        answer = await self._request("POST", "/_bulk", body, "application/x-ndjson")
        items: list[dict[str, Any]] = answer.get("items", [])
        refused = [item["create"] for item in items if item["create"]["status"] not in (_CREATED, _CONFLICT)]
        if refused:
            first = refused[0]
            kind = (first.get("error") or {}).get("type", "no reason given")
            raise SinkError(f"{len(refused)} of {len(items)} events were refused: {first['status']} {kind}")
        return items

    async def _request(self, method: str, path: str, body: bytes, kind: str) -> dict[str, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout)
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=body,
                headers={"Content-Type": kind, **self._headers},
                ssl=self._tls if self._tls is not None else True,
                allow_redirects=False,
            ) as response:
                if response.status not in (200, 201):
                    raise SinkError(f"the search engine answers {path.split('/')[1]} with {response.status}")
                found: dict[str, Any] = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise SinkError(f"the search engine does not answer: {type(error).__name__}") from None
        if not isinstance(found, dict):
            raise SinkError("the search engine answers with something else than an object")
        return found


def document(message: Stored) -> dict[str, Any]:
    """What is indexed of a message. One whose bytes are no event is there too, flagged, with its text."""
    columns = row(message)
    found = {name: columns[name] for name in _FIELDS if columns[name] not in ("", None)}
    found |= {
        "@timestamp": message.stored_ns // 1_000_000,
        "stream": message.stream,
        "sequence": message.sequence,
        "text": columns["search_text"],
    }
    if not columns["unreadable"]:
        found["event"] = json.loads(message.payload)
    return found


def _parts(messages: Sequence[Stored], index: str) -> Iterator[bytes]:
    """Bodies for ``_bulk``, none larger than the bound unless one event is."""
    part = bytearray()
    for message in messages:
        month = month_of(message.stored_ns)
        action = {
            "_index": f"{index}-{month.year:04d}.{month.month:02d}",
            "_id": f"{message.stream}:{message.sequence}",
        }
        lines = f"{json.dumps({'create': action})}\n{json.dumps(document(message))}\n".encode()
        if part and len(part) + len(lines) > BULK_BYTES_MAX:
            yield bytes(part)
            part = bytearray()
        part += lines
    if part:
        yield bytes(part)


def open_sink(settings: AuditSettings, log: Log) -> SearchSink:
    """The sink the settings name.

    Raises:
        SettingsError: a file that one names cannot be used.
    """
    if settings.sink_url is None:
        raise ValueError("no sink is set")
    tls: ssl.SSLContext | None = None
    if settings.sink_ca is not None:
        try:
            tls = ssl.create_default_context(cafile=str(settings.sink_ca))
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"setting sink_ca: {settings.sink_ca} holds no certificates ({error})") from None
    return SearchSink(
        settings.sink_url.get_secret_value(),
        settings.sink_index,
        settings.sink_api_key.get_secret_value(),
        tls,
        settings.timeout_s,
        log,
    )
