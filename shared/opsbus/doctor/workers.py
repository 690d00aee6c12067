"""The workers: who is announced in the catalogue, and who answers service discovery. Both must tell the same."""

import asyncio
import contextlib
import json
from dataclasses import dataclass

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from pydantic import ValidationError

from opsbus.doctor.finding import Finding, fail, ok, warn
from opsbus_contracts import Manifest
from opsbus_contracts.streams import CATALOG

ANSWERS_WITHIN_S = 1.0
SILENT_AFTER_S = 5.0
"""Who is announced has this long to answer: one that is busy, or far away, is no dead one. Seconds."""


@dataclass(frozen=True)
class Announced:
    """The bucket CATALOG as it stands."""

    manifests: list[Manifest]
    garbage: list[str]
    """Keys whose value is no manifest, with the reason."""


async def announced(js: JetStreamContext) -> Announced:
    """Read the catalogue, key by key: nats-py's watch can mark its end before the first entry came."""
    bucket = await js.key_value(CATALOG.name)
    prefix = f"$KV.{CATALOG.name}."
    state = (await js.stream_info(f"KV_{CATALOG.name}", subjects_filter=f"{prefix}>")).state
    manifests: list[Manifest] = []
    garbage: list[str] = []
    for subject in sorted(state.subjects or {}):
        key = subject.removeprefix(prefix)
        try:
            entry = await bucket.get(key)
        except KeyNotFoundError:
            continue  # it has left
        if not entry.value:
            continue  # the mark of its expiry
        try:
            manifests.append(Manifest.model_validate_json(entry.value))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            garbage.append(f"{key}: {'.'.join(map(str, first['loc']))} {first['msg']}".replace("  ", " "))
    return Announced(manifests, garbage)


async def answering(client: Client, expected: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Service and instance of whoever answers ``$SRV.PING`` within a second; those expected are waited for longer."""
    found: set[tuple[str, str]] = set()
    complete = asyncio.Event()

    async def heard(message: Msg) -> None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            answer = json.loads(message.data)
            found.add((str(answer["name"]), str(answer["id"])))
            if expected <= found:
                complete.set()

    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=heard)
    await client.publish("$SRV.PING", b"", reply=inbox)
    await client.flush()
    await asyncio.sleep(ANSWERS_WITHIN_S)  # nobody knows how many will answer
    if not expected <= found:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(complete.wait(), SILENT_AFTER_S - ANSWERS_WITHIN_S)
    await subscription.unsubscribe()
    return found


async def check_workers(client: Client, js: JetStreamContext) -> list[Finding]:
    """One finding per service, and one per key that is no manifest."""
    catalogue = await announced(js)
    known = {(manifest.service, manifest.instance) for manifest in catalogue.manifests}
    answers = await answering(client, known)
    findings = [
        fail("catalogue", f"{line}", "that worker announces garbage: the kit it was built on is wrong")
        for line in catalogue.garbage
    ]
    by_service: dict[str, list[Manifest]] = {}
    for manifest in catalogue.manifests:
        by_service.setdefault(manifest.service, []).append(manifest)
    findings += [_service(name, by_service[name], answers) for name in sorted(by_service)]
    for name, instance in sorted(answers - known):
        findings.append(
            warn(
                f"service {name}",
                f"{instance} answers and is not announced",
                "it has just started, or no worker of ours",
            )
        )
    if not by_service:
        findings.append(warn("services", "none is announced", "start a worker: 'opsbus run k8s-ops'"))
    return findings


def _service(name: str, manifests: list[Manifest], answers: set[tuple[str, str]]) -> Finding:
    subject = f"service {name}"
    count = len(manifests)
    tools = max(len(manifest.tools) for manifest in manifests)
    text = f"{count} instance{'s' if count > 1 else ''}, {tools} tools, version {manifests[-1].version}"
    silent = [manifest.instance for manifest in manifests if (name, manifest.instance) not in answers]
    if silent:
        return fail(
            subject, f"{text}; silent: {', '.join(silent)}", "announced and not answering: it hangs or has died"
        )
    if len({manifest.schema_hash for manifest in manifests}) > 1:
        return warn(
            subject, f"{text}; its instances offer different tools", "a roll-out is under way, or was left half done"
        )
    return ok(subject, text)
