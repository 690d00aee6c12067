"""Provisioning: streams, buckets, object stores and consumers as the contracts declare them.

One step of its own, never part of a worker's start-up. It creates what is missing and changes back what drifted, and
says what it did. It deletes nothing.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import APIError, NotFoundError

from opsbus_contracts.streams import (
    BUCKETS,
    CONSUMERS,
    OBJECT_STORES,
    STREAMS,
    BucketSpec,
    ConsumerSpec,
    ObjectStoreSpec,
    StreamSpec,
)

Action = Literal["created", "updated", "unchanged", "refused"]


@dataclass(frozen=True)
class Step:
    """What was done about one declared thing."""

    kind: Literal["stream", "bucket", "object store", "consumer"]
    name: str
    action: Action
    drift: tuple[str, ...] = ()
    """``max_age: 3600.0 -> 7776000.0``"""
    problem: str = ""
    """Why the server refused."""


def stream_config(spec: StreamSpec, replicas: int = 1) -> StreamConfig:
    """A declared stream as the server takes it."""
    return StreamConfig(
        name=spec.name,
        description=spec.description,
        subjects=list(spec.subjects),
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=spec.max_age_s,
        max_bytes=spec.max_bytes,
        max_msg_size=spec.max_msg_bytes,
        discard=DiscardPolicy.NEW if spec.discard_new else DiscardPolicy.OLD,
        deny_delete=spec.deny_delete,
        deny_purge=spec.deny_purge,
        duplicate_window=spec.duplicate_window_s,
        allow_direct=True,
        num_replicas=replicas,
    )


def bucket_config(spec: BucketSpec, replicas: int = 1) -> StreamConfig:
    """A declared bucket as the stream behind it (ADR-8)."""
    return StreamConfig(
        name=f"KV_{spec.name}",
        description=spec.description,
        subjects=[f"$KV.{spec.name}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=spec.ttl_s,
        max_bytes=spec.max_bytes,
        max_msg_size=spec.max_value_bytes,
        max_msgs_per_subject=spec.history,
        discard=DiscardPolicy.NEW,
        deny_delete=True,
        allow_rollup_hdrs=spec.rollup or spec.limit_marker_ttl_s > 0,  # a server's markers of expiry are roll-ups
        allow_direct=True,
        allow_msg_ttl=True,
        subject_delete_marker_ttl=spec.limit_marker_ttl_s or None,
        duplicate_window=min(120.0, spec.ttl_s or 120.0),
        num_replicas=replicas,
    )


def object_store_config(spec: ObjectStoreSpec, replicas: int = 1) -> StreamConfig:
    """A declared object store as the stream behind it (ADR-20)."""
    return StreamConfig(
        name=f"OBJ_{spec.name}",
        description=spec.description,
        subjects=[f"$O.{spec.name}.C.>", f"$O.{spec.name}.M.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_age=spec.ttl_s,
        max_bytes=spec.max_bytes,
        discard=DiscardPolicy.NEW,
        allow_rollup_hdrs=False,
        allow_direct=True,
        duplicate_window=120.0,
        num_replicas=replicas,
    )


def consumer_config(spec: ConsumerSpec) -> ConsumerConfig:
    """A declared durable pull consumer."""
    return ConsumerConfig(
        durable_name=spec.name,
        description=spec.description,
        ack_policy=AckPolicy.EXPLICIT,
        deliver_policy=DeliverPolicy.ALL,
        ack_wait=spec.ack_wait_s,
        max_ack_pending=spec.max_ack_pending,
    )


async def provision(js: JetStreamContext, *, replicas: int = 1, done: list[Step] | None = None) -> list[Step]:
    """Makes the server's streams, buckets and consumers what the contracts declare; twice is once.

    Args:
        js: Of the identity ``provisioner``.
        replicas: 1 on one server, 3 in a cluster.
        done: Gets each step as soon as it is done: known also when a later one fails.
    """
    steps = done if done is not None else []
    for stream in STREAMS:
        steps.append(await _stream(js, "stream", stream.name, stream_config(stream, replicas)))
    for bucket in BUCKETS:
        steps.append(await _stream(js, "bucket", bucket.name, bucket_config(bucket, replicas)))
    for store in OBJECT_STORES:
        steps.append(await _stream(js, "object store", store.name, object_store_config(store, replicas)))
    for consumer in CONSUMERS:
        steps.append(await _consumer(js, consumer))
    return steps


async def _stream(js: JetStreamContext, kind: Any, name: str, wanted: StreamConfig) -> Step:
    try:
        present = (await js.stream_info(str(wanted.name))).config
    except NotFoundError:
        await js.add_stream(wanted)
        return Step(kind, name, "created")
    drift = _drift(present, wanted)
    if not drift:
        return Step(kind, name, "unchanged")
    try:
        await js.update_stream(wanted)
    except APIError as error:
        return Step(kind, name, "refused", drift, error.description or str(error))
    return Step(kind, name, "updated", drift)


async def _consumer(js: JetStreamContext, spec: ConsumerSpec) -> Step:
    wanted = consumer_config(spec)
    try:
        present = (await js.consumer_info(spec.stream, spec.name)).config
    except NotFoundError:
        await js.add_consumer(spec.stream, wanted)
        return Step("consumer", spec.name, "created")
    drift = _drift(present, wanted)
    if not drift:
        return Step("consumer", spec.name, "unchanged")
    try:
        await js.add_consumer(spec.stream, wanted)
    except APIError as error:
        return Step("consumer", spec.name, "refused", drift, error.description or str(error))
    return Step("consumer", spec.name, "updated", drift)


def _drift(present: Any, wanted: Any) -> tuple[str, ...]:
    """Where the server's configuration differs from what is declared; the rest is the server's own matter."""
    found = []
    for item in fields(wanted):
        declared, actual = getattr(wanted, item.name), getattr(present, item.name)
        if declared is None or item.name in ("durable_name",):
            continue
        if (declared or None) != (actual or None):
            found.append(f"{item.name}: {actual} -> {declared}")
    return tuple(found)
