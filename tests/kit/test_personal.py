"""Keys of personal data on a real bus: made once, found by name, destroyed for ever."""

import asyncio
import contextlib
import re

import pytest
from nats.js.errors import NotFoundError

from opsbus.personal import Person, Persons, PersonsError, sealing_context
from opsbus.testing.bus import Bus

CONTEXT = sealing_context("a" * 32, "completed")


async def persons(bus: Bus, identity: str = "edge") -> Persons:
    return Persons((await bus.connect(identity)).jetstream())


async def test_a_person_is_made_once_and_found_by_everybody_who_may_read(bus: Bus) -> None:
    edges = [await persons(bus) for _ in range(4)]
    found = await asyncio.gather(*(edge.of("ada@shop.example") for edge in edges))
    assert len(set(found)) == 1
    ada = found[0]
    assert re.fullmatch(r"person-[0-9a-f]{16}", ada.pseudonym), "nothing of the name, by chance neither"
    assert (await edges[0].of("bob")).pseudonym != ada.pseudonym
    for identity in ("audit", "auditor", "keeper"):
        reader = await persons(bus, identity)
        assert await reader.find("ada@shop.example") == ada
        assert await reader.named(ada.pseudonym) == ada


async def held(bus: Bus) -> list[bytes]:
    """All that the bucket still has, of every key and revision."""
    js = await bus.jetstream()
    found = []
    for sequence in range(1, (await js.stream_info("KV_SUBJECTKEYS")).state.last_seq + 1):
        with contextlib.suppress(NotFoundError):
            found.append((await js.get_msg("KV_SUBJECTKEYS", sequence)).data or b"")
    return found


@pytest.mark.parametrize("who", ["nobody", "", "ada\x00", "\u2603 *.>", "a" * 256])
async def test_who_was_never_recorded_is_not_found_and_not_made(bus: Bus, who: str) -> None:
    auditor = await persons(bus, "auditor")
    assert await auditor.find(who) is None
    assert await (await persons(bus, "keeper")).forget(who) is None
    made = await (await persons(bus)).of(who)
    assert await auditor.find(who) == made


@pytest.mark.parametrize("pseudonym", ["", "ada", "person-", "person-*", "person-a.b", "person->", "person-0000"])
async def test_no_made_up_pseudonym_reaches_another_entry(bus: Bus, pseudonym: str) -> None:
    await (await persons(bus)).of("ada")
    assert await (await persons(bus, "auditor")).named(pseudonym) is None


async def test_who_was_forgotten_cannot_be_found_and_begins_anew(bus: Bus) -> None:
    edge = await persons(bus)
    before = await edge.of("ada")
    sealed = before.seal({"actor": "ada"}, CONTEXT)
    assert await (await persons(bus, "keeper")).forget("ada") == before.pseudonym
    auditor = await persons(bus, "auditor")
    assert await auditor.find("ada") is None
    assert await auditor.named(before.pseudonym) is None
    for kept in await held(bus):
        assert before.key not in kept
        assert before.pseudonym.encode() not in kept
    again = await (await persons(bus)).of("ada")
    assert again.pseudonym != before.pseudonym
    with pytest.raises(ValueError, match="cannot be read"):
        again.open(sealed, CONTEXT)
    assert await (await persons(bus, "keeper")).forget("ada") == again.pseudonym


async def test_a_forgetting_cut_short_is_finished_by_the_next(bus: Bus) -> None:
    edge = await persons(bus)
    ada = await edge.of("ada")
    bucket = await (await bus.jetstream()).key_value("SUBJECTKEYS")
    await bucket.purge(f"key.{ada.pseudonym}")
    again = await (await persons(bus)).of("ada")
    assert again.pseudonym != ada.pseudonym
    assert await (await persons(bus, "auditor")).find("ada") == again


async def test_readers_may_not_write_and_others_may_not_read(bus: Bus) -> None:
    await (await persons(bus)).of("ada")
    writers = [(await persons(bus, identity)).forget("ada") for identity in ("auditor", "audit")]
    readers = [(await persons(bus, identity)).find("ada") for identity in ("k8s", "cmdb", "operator", "witness")]
    # At once: who may not ask waits for an answer that does not come.
    refused = await asyncio.gather(*writers, *readers, return_exceptions=True)
    assert [type(one) for one in refused] == [PersonsError] * 6


@pytest.mark.parametrize("change", ["context", "key", "bytes", "cut", "empty"])
def test_what_is_sealed_opens_only_as_it_was(change: str) -> None:
    ada = Person("person-1", b"a" * 32)
    sealed = ada.seal({"actor": "ada", "address": "10.0.0.7"}, CONTEXT)
    assert ada.open(sealed, CONTEXT) == {"actor": "ada", "address": "10.0.0.7"}
    assert sealed != ada.seal({"actor": "ada", "address": "10.0.0.7"}, CONTEXT)
    key, context = ada, CONTEXT
    match change:
        case "context":
            context = sealing_context("b" * 32, "completed")
        case "key":
            key = Person("person-1", b"b" * 32)
        case "bytes":
            sealed = sealed[:-6] + ("AAAAAA" if sealed[-6:] != "AAAAAA" else "BBBBBB")
        case "cut":
            sealed = sealed[:20]
        case "empty":
            sealed = "v1."
    with pytest.raises(ValueError, match="cannot be read"):
        key.open(sealed, context)
