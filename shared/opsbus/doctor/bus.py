"""The bus: is it there, is everything on it that is declared, and does its clock agree with ours?"""

import json
import time
from collections.abc import Iterator
from datetime import datetime

from nats import errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import APIError, NotFoundError

from opsbus.doctor.finding import Finding, fail, ok, warn
from opsbus.provision import _drift, bucket_config, object_store_config, stream_config
from opsbus_contracts.streams import AUDIT, AUDIT_STORE, BUCKETS, OBJECT_STORES, STREAMS

SKEW_WARN_S = 1.0
SKEW_FAIL_S = 5.0
"""Identities and deadlines are absolute times: beyond this, calls are refused."""

BACKLOG_WARN = 5_000
FULL_WARN = 0.8

_PROVISION = "run 'opsbus provision'"


async def check_streams(js: JetStreamContext) -> list[Finding]:
    """One finding per declared stream, bucket and object store."""
    found: list[Finding] = []
    for kind, name, wanted in _declared():
        subject = f"{kind} {name}"
        try:
            info = await js.stream_info(wanted.name or name)
        except NotFoundError:
            found.append(fail(subject, "is missing", _PROVISION))
            continue
        except APIError as error:
            found.append(fail(subject, error.description or str(error), "is JetStream well? see the server's log"))
            continue
        wanted.num_replicas = info.config.num_replicas  # a matter of the cluster, not of the contract
        drift = _drift(info.config, wanted)
        used = info.state.bytes / wanted.max_bytes if wanted.max_bytes else 0.0
        if drift:
            found.append(warn(subject, f"differs from what is declared: {'; '.join(drift)}", _PROVISION))
        elif used > FULL_WARN:
            found.append(
                warn(subject, f"is {used:.0%} full", "a full audit stream stops every mutating call: make room")
            )
        else:
            found.append(ok(subject, f"{info.state.messages} messages, {info.state.bytes / 1e6:.1f} MB"))
    return found


def _declared() -> Iterator[tuple[str, str, StreamConfig]]:
    for stream in STREAMS:
        yield "stream", stream.name, stream_config(stream)
    for bucket in BUCKETS:
        yield "bucket", bucket.name, bucket_config(bucket)
    for store in OBJECT_STORES:
        yield "object store", store.name, object_store_config(store)


async def check_record(js: JetStreamContext) -> Finding:
    """Does the audit worker keep up with the record?"""
    subject = f"consumer {AUDIT_STORE.name}"
    try:
        info = await js.consumer_info(AUDIT_STORE.stream, AUDIT_STORE.name)
    except NotFoundError:
        return fail(subject, "is missing", _PROVISION)
    waiting = (info.num_pending or 0) + (info.num_ack_pending or 0)
    if waiting > BACKLOG_WARN:
        return warn(subject, f"{waiting} events are not stored yet", "is the audit worker running? see its log")
    return ok(subject, f"{waiting} events not stored yet")


async def check_clock(client: Client) -> Finding:
    """The server's clock against ours. JetStream stamps its answers."""
    subject = "clock"
    before = time.time()
    try:
        answer = await client.request(f"$JS.API.STREAM.INFO.{AUDIT.name}", b"", timeout=3.0)
    except (errors.Error, TimeoutError):
        return fail(subject, "JetStream does not answer", "is it enabled, and may this identity ask?")
    after = time.time()
    stamp = json.loads(answer.data).get("ts")
    if not isinstance(stamp, str):
        return warn(subject, "the server does not say its time", "it is older than NATS 2.10: update it")
    server = datetime.fromisoformat(_microseconds(stamp)).timestamp()
    skew_s = max(before - server, server - after, 0.0)
    text = f"{skew_s:.2f} s apart from the bus"
    if skew_s > SKEW_FAIL_S:
        return fail(subject, text, "tokens and deadlines will be refused: let NTP set the clocks")
    if skew_s > SKEW_WARN_S:
        return warn(subject, text, "let NTP set the clocks")
    return ok(subject, text)


def _microseconds(stamp: str) -> str:
    """RFC 3339 with nanoseconds, as Python reads it."""
    text = stamp.replace("Z", "+00:00")
    head, dot, rest = text.partition(".")
    if not dot:
        return text
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[: min(digits, 6)]}{rest[digits:]}"
