"""Every kind of tampering, in an export and in the store, is caught, and the first event is named."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select, update

from opsbus_audit import tables
from opsbus_audit.proof import bundle, tree
from opsbus_audit.proof.bundle import BundleError
from opsbus_audit.proof.finding import Finding, Kind, Report
from opsbus_audit.proof.in_store import verify_store
from opsbus_audit.proof.leaf import Event, Run, leaves_of
from opsbus_audit.proof.line import parse_line
from opsbus_audit.proof.match import Chunk, Matcher, chunk_of, drive
from opsbus_audit.proof.note import SigningKey
from opsbus_audit.proof.offline import verify_folder

_spec = importlib.util.spec_from_file_location("proof_samples", Path(__file__).parent / "proof_samples.py")
assert _spec is not None
assert _spec.loader is not None
samples = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(samples)

COUNT = 730
KEYS = [samples.KEY.public]


@pytest.fixture
async def store(database_url: str) -> Any:
    made = await samples.filled(database_url, COUNT)
    yield made
    await made.close()


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """An export of the events 101 to 600 of a record of 730."""
    made = await samples.filled(f"sqlite:///{tmp_path}/audit.sqlite3", COUNT)
    exported: Path = await samples.exported(made, tmp_path / "export", 101, 600)
    await made.close()
    return exported


def named(report: Report) -> tuple[Kind, int]:
    assert report.finding is not None
    return report.finding.kind, report.finding.sequence


async def test_an_untouched_store_is_found_to_be_so(store: Any) -> None:
    report = await verify_store(store.engine, KEYS)
    assert report.finding is None
    assert (report.events, report.signed, report.unsigned, report.checkpoints) == (COUNT, COUNT, 0, 8)
    async with store.engine.connect() as connection:
        assert report.root == (await tree.frontier_of(connection)).root().hex()


def test_an_untouched_export_is_found_to_be_so(folder: Path) -> None:
    report = verify_folder(folder, KEYS, exporter=samples.EXPORTER.public_key())
    assert report.finding is None
    assert (report.events, report.unsigned, report.complete) == (500, 0, True)
    # Six over the batches that hold the range, and the last one.
    assert (report.checkpoints, report.signed) == (7, COUNT)


def test_many_processes_find_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opsbus_audit.proof.hashing.PIECE_BYTES", 1_000)
    assert verify_folder(folder, KEYS, processes=2).events == 500
    rewrite(folder, lambda lines: [*lines[:400], *lines[401:]])
    assert named(verify_folder(folder, KEYS, processes=2)) == (Kind.MISSING, 501)


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], list[Any]]) -> None:
    """Doctor the events, and make everything that is not signed by the log fit."""
    path = folder / bundle.EVENTS
    lines = change([json.loads(text) for text in path.read_text().splitlines()])
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    samples.seal(folder, 101, 600, len(lines))


def at(lines: list[dict[str, Any]], sequence: int) -> int:
    return next(n for n, line in enumerate(lines) if line["seq"] == sequence)


def change(sequence: int, **fields: Any) -> Callable[[list[dict[str, Any]]], list[Any]]:
    return lambda lines: [line | fields if line["seq"] == sequence else line for line in lines]


def swapped_lines(lines: list[dict[str, Any]]) -> list[Any]:
    one, other = at(lines, 300), at(lines, 340)
    lines[one], lines[other] = lines[other], lines[one]
    return lines


def swapped_contents(lines: list[dict[str, Any]]) -> list[Any]:
    one, other = at(lines, 300), at(lines, 340)
    lines[one], lines[other] = lines[other] | {"seq": 300}, lines[one] | {"seq": 340}
    return lines


def renumbered(lines: list[dict[str, Any]]) -> list[Any]:
    return [line | {"seq": 101 + n} for n, line in enumerate(lines)]


def without(sequence: int, until: int = 0) -> Callable[[list[dict[str, Any]]], list[Any]]:
    return lambda lines: [line for line in lines if not sequence <= line["seq"] <= max(until, sequence)]


def with_line(after: int, line: Any) -> Callable[[list[dict[str, Any]]], list[Any]]:
    return lambda lines: [*lines[: at(lines, after) + 1], line, *lines[at(lines, after) + 1 :]]


INVENTED = {
    "seq": 601, "subject": "audit.edge.completed", "time": "2026-11-21T00:00:00.000000001Z", "id": "", "data": "e30=",
}  # fmt: skip
DOCTORED: dict[str, tuple[Callable[[list[dict[str, Any]]], list[Any]], Kind, int]] = {
    "other bytes": (change(250, data="e30="), Kind.ALTERED, 250),
    "another subject": (change(250, subject="audit.edge.failed"), Kind.ALTERED, 250),
    "another time": (change(250, time="2026-06-01T00:00:00.000000000Z"), Kind.ALTERED, 250),
    "another id": (change(251, id="event-9"), Kind.ALTERED, 251),
    "no line": (with_line(250, "not json"), Kind.ALTERED, 251),
    "half a line": (lambda lines: [*lines[:-1], json.dumps(lines[-1])[:-20]], Kind.ALTERED, 600),
    "the first is missing": (without(101), Kind.MISSING, 101),
    "one is missing": (without(250), Kind.MISSING, 250),
    "many are missing": (without(250, 420), Kind.MISSING, 250),
    "the last is missing": (without(600), Kind.MISSING, 600),
    "all are missing": (without(101, 600), Kind.MISSING, 101),
    "one is missing and the rest renumbered": (lambda lines: renumbered(without(250)(lines)), Kind.MISSING, 250),
    "two change places": (swapped_lines, Kind.REORDERED, 300),
    "two change contents": (swapped_contents, Kind.REORDERED, 300),
    "one comes later": (lambda lines: [*without(250)(lines), lines[at(lines, 250)]], Kind.REORDERED, 250),
    "one is there twice": (lambda lines: with_line(250, lines[at(lines, 250)])(lines), Kind.DUPLICATED, 250),
    "an earlier one again": (lambda lines: with_line(500, lines[at(lines, 102)])(lines), Kind.DUPLICATED, 102),
    "twice and renumbered": (
        lambda lines: renumbered(with_line(250, lines[at(lines, 250)])(lines)),
        Kind.DUPLICATED,
        251,
    ),
    "one is invented at the end": (with_line(600, INVENTED), Kind.INVENTED, 601),
    "one is invented before": (lambda lines: [INVENTED | {"seq": 100}, *lines], Kind.INVENTED, 100),
    "one is invented and the rest renumbered": (
        lambda lines: renumbered(with_line(250, INVENTED)(lines)),
        Kind.INVENTED,
        251,
    ),
    "nonsense at the end": (with_line(600, "[]"), Kind.INVENTED, 601),
}


@pytest.mark.parametrize("what", DOCTORED)
def test_a_doctored_export(folder: Path, what: str) -> None:
    doctor, kind, sequence = DOCTORED[what]
    rewrite(folder, doctor)
    report = verify_folder(folder, KEYS, exporter=samples.EXPORTER.public_key())
    assert named(report) == (kind, sequence), report.finding


def test_an_event_and_its_leaf_hash_are_doctored(folder: Path) -> None:
    """The checkpoints tell to within a hundred."""
    rewrite(folder, change(250, data="e30="))
    event = parse_line((folder / bundle.EVENTS).read_bytes().splitlines()[149])
    assert event is not None
    proof = bundle.read_proof(folder)
    leaves = bytearray((folder / bundle.LEAVES).read_bytes())
    begin = (250 - 1 - proof.position) * 32
    leaves[begin : begin + 32] = leaves_of([event])
    (folder / bundle.LEAVES).write_bytes(leaves)
    samples.seal(folder, 101, 600, 500)
    report = verify_folder(folder, KEYS)
    assert named(report) == (Kind.ALTERED, 201)
    assert report.finding is not None
    assert report.finding.last == 300


def test_what_else_is_doctored_in_an_export(folder: Path) -> None:
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}

    def restore() -> None:
        for name, data in whole.items():
            (folder / name).write_bytes(data)

    stranger = SigningKey(samples.KEY.name, Ed25519PrivateKey.generate())
    assert named(verify_folder(folder, [stranger.public])) == (Kind.FORGED, 0)
    assert named(verify_folder(folder, KEYS, exporter=Ed25519PrivateKey.generate().public_key())) == (Kind.FORGED, 0)
    for name in (bundle.LEAVES, bundle.CHECKPOINTS, bundle.PROOF, bundle.EVENTS):
        data = bytearray(whole[name])
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        try:
            assert verify_folder(folder, KEYS).finding is not None, name
        except BundleError:
            assert name == bundle.PROOF
        restore()
    # The range cut, and its proof with it: the exporter's signature is what says how far it went.
    proof = json.loads(whole[bundle.PROOF])
    proof["size"] = 0
    (folder / bundle.PROOF).write_text(json.dumps(proof))
    (folder / bundle.CHECKPOINTS).write_bytes(b"")
    samples.seal(folder, 101, 600, 500)
    assert verify_folder(folder, KEYS).unsigned >= 500
    (folder / bundle.EVENTS).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        verify_folder(folder, KEYS)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(BundleError, match="manifest"):
        verify_folder(folder, KEYS)


async def test_a_filtered_export_proves_what_is_in_it(tmp_path: Path) -> None:
    made = await samples.filled(f"sqlite:///{tmp_path}/audit.sqlite3", 300, signed=250)
    folder = await samples.exported(made, tmp_path / "some", 20, 290, lambda event: event.sequence % 3 == 0)
    await made.close()
    report = verify_folder(folder, KEYS)
    assert report.finding is None
    assert (report.events, report.complete) == (90, False)
    assert report.unsigned == 50
    lines = (folder / bundle.EVENTS).read_bytes().splitlines(keepends=True)
    (folder / bundle.EVENTS).write_bytes(
        b"".join([*lines[:5], lines[6].replace(b'"data":"', b'"data":"AAAA'), *lines[7:]])
    )
    assert named(verify_folder(folder, KEYS)) == (Kind.ALTERED, 39)


def moved(one: int, other: int) -> list[Any]:
    """Two events change their numbers."""
    column = tables.event.c
    return [
        update(tables.event).where(column.sequence == one).values(sequence=-1),
        update(tables.event).where(column.sequence == other).values(sequence=one),
        update(tables.event).where(column.sequence == -1).values(sequence=other),
    ]


def here(sequence: int) -> Any:
    return tables.event.c.sequence == sequence


STATEMENTS: dict[str, tuple[list[Any], Kind, int]] = {
    "other bytes": ([update(tables.event).where(here(250)).values(payload=b"{}")], Kind.ALTERED, 250),
    "another subject": ([update(tables.event).where(here(250)).values(subject="audit.edge.failed")], Kind.ALTERED, 250),
    "another id": ([update(tables.event).where(here(251)).values(headers='{"Nats-Msg-Id": "x"}')], Kind.ALTERED, 251),
    "another time": ([update(tables.event).where(here(250)).values(stored_ns=samples.BEGIN_NS)], Kind.ALTERED, 250),
    "one is missing": ([delete(tables.event).where(here(250))], Kind.MISSING, 250),
    "many are missing": ([delete(tables.event).where(tables.event.c.sequence.between(250, 700))], Kind.MISSING, 250),
    "all are missing": ([delete(tables.event)], Kind.MISSING, 1),
    "two change numbers": (moved(300, 340), Kind.REORDERED, 300),
    "a leaf is missing": ([delete(tables.leaves).where(tables.leaves.c.position == 150)], Kind.INVENTED, 151),
    "event and leaf are missing": (
        [
            delete(tables.event).where(tables.event.c.sequence.between(151, 300)),
            delete(tables.leaves).where(tables.leaves.c.position == 150),
        ],
        Kind.FORGED,
        0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", STATEMENTS)
async def test_a_doctored_store(store: Any, what: str) -> None:
    statements, kind, sequence = STATEMENTS[what]
    async with store.engine.begin() as connection:
        for statement in statements:
            await connection.execute(statement)
    report = await verify_store(store.engine, KEYS)
    assert named(report) == (kind, sequence), report.finding


@pytest.mark.parametrize(
    ("sequence", "stored_ns", "kind"),
    [(731, 0, Kind.INVENTED), (250, 7, Kind.DUPLICATED), (-5, 0, Kind.INVENTED)],
)
async def test_an_event_is_put_into_the_store(store: Any, sequence: int, stored_ns: int, kind: Kind) -> None:
    async with store.engine.begin() as connection:
        row = dict((await connection.execute(select(tables.event).where(here(250)))).mappings().one())
        row |= {"sequence": sequence, "stored_ns": row["stored_ns"] + stored_ns}
        await connection.execute(insert(tables.event).values(row))
    report = await verify_store(store.engine, KEYS)
    assert named(report) == (kind, sequence), report.finding


async def test_a_stream_nobody_signed_is_put_into_the_store(store: Any) -> None:
    async with store.engine.begin() as connection:
        row = dict((await connection.execute(select(tables.event).where(here(250)))).mappings().one())
        await connection.execute(insert(tables.event).values(row | {"stream": "AUDIT@20250101T000000.000000Z"}))
    assert named(await verify_store(store.engine, KEYS)) == (Kind.INVENTED, 250)


async def test_somebody_changes_an_event_with_its_leaf_and_the_whole_tree(store: Any) -> None:
    """Without the key no checkpoint fits: it tells to within a hundred events."""
    async with store.engine.begin() as connection:
        await connection.execute(update(tables.event).where(here(250)).values(payload=b"{}"))
        for table in (tables.tree, tables.leaves, tables.node):
            await connection.execute(delete(table))
    await tree.adopt(store.engine)
    report = await verify_store(store.engine, KEYS)
    assert named(report) == (Kind.ALTERED, 201)
    assert report.finding is not None
    assert report.finding.last == 300
    # And with its checkpoints, by another key: it is signed by nobody who counts.
    async with store.engine.begin() as connection:
        await connection.execute(delete(tables.checkpoint))
    assert (await verify_store(store.engine, KEYS)).unsigned == COUNT


async def test_what_was_let_go_is_no_tampering(store: Any) -> None:
    async with store.engine.begin() as connection:
        await connection.execute(delete(tables.event).where(tables.event.c.sequence.between(200, 400)))
        row = {"stream": samples.LIFE, "first": 200, "last": 400, "let_go_us": 1}
        await connection.execute(insert(tables.let_go).values(row))
    report = await verify_store(store.engine, KEYS)
    assert report.finding is None
    assert (report.events, report.let_go_events, report.let_go) == (COUNT - 201, 201, [(200, 400)])
    async with store.engine.begin() as connection:
        await connection.execute(delete(tables.event).where(here(401)))
    assert named(await verify_store(store.engine, KEYS)) == (Kind.MISSING, 401)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 40), st.data())
def test_a_matcher_finds_any_change_and_nothing_else(count: int, data: st.DataObject) -> None:
    events = [Event(n, n, "s", "", bytes([n])) for n in range(1, count + 1)]
    leaves = [Run(n - 1, "s", n, leaves_of(events[n - 1 : n + 2])) for n in range(1, count + 1, 3)]
    order = data.draw(
        st.one_of(st.just(list(range(count))), st.permutations(range(count)), st.lists(st.integers(0, count - 1)))
    )
    given_ = [events[n] for n in order]
    size = data.draw(st.integers(1, 9))
    parts = [given_[n : n + size] for n in range(0, len(given_), size)]
    matcher = Matcher()
    chunks = [Chunk([e.sequence for e in part], leaves_of(part), lambda part=part: part) for part in parts]
    drive(matcher, iter(leaves), iter(chunks))
    if order == list(range(count)):
        assert matcher.finding is None
        assert matcher.matched == count
    else:
        assert isinstance(matcher.finding, Finding)
        wrong = next((n for n in range(min(len(order), count)) if order[n] != n), min(len(order), count))
        assert matcher.matched == wrong


def some(first: int, last: int) -> list[Event]:
    return [Event(number, number, "s", "", b"") for number in range(first, last + 1)]


def chunks_of(first: int, last: int, size: int = 10) -> list[Chunk]:
    return [chunk_of(some(number, min(number + size - 1, last))) for number in range(first, last + 1, size)]


def runs_of(last: int) -> list[Run]:
    return [
        Run(n - 1, "s", n, leaves_of(Event(n + i, n + i, "s", "", b"") for i in range(10))) for n in range(1, last, 10)
    ]


def test_all_events_after_the_last_leaf_are_counted() -> None:
    matcher, told = Matcher(tail=True), list[int]()
    drive(matcher, iter(runs_of(50)), iter(chunks_of(1, 93)), told.append)
    assert (matcher.finding, matcher.matched, matcher.beyond, sum(told)) == (None, 50, 43, 50)


def test_leaves_without_events_are_not_gathered() -> None:
    """Of an export that was cut, the first missing event is known at once: the rest of the tree is not read."""
    leaves = iter(runs_of(50_000))
    matcher = Matcher()
    drive(matcher, leaves, iter(chunks_of(1, 25)))
    assert matcher.finding is not None
    assert (matcher.finding.kind, matcher.finding.sequence, matcher.matched) == (Kind.MISSING, 26, 25)
    assert len(list(leaves)) > 4_500


def test_a_verifier_needs_neither_bus_nor_database(folder: Path) -> None:
    program = """
import sys, pathlib
from opsbus_audit.proof.offline import verify_folder
from opsbus_audit.proof.note import read_key
if __name__ == "__main__":
    report = verify_folder(pathlib.Path(sys.argv[1]), [read_key(sys.argv[2])])
    print(report.ok, report.events, sorted({"nats", "faststream", "sqlalchemy", "opsbus"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), str(samples.KEY.public)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "True 500 []"
