"""Files in and out: what is exported can be imported, twice changes nothing, every mistake has its line, and a mistake
anywhere imports nothing."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from opsbus.database import open_engine
from opsbus_cmdb import seed, tables
from opsbus_cmdb.model import Status
from opsbus_cmdb.query import AssetQuery, Direction, TopologyQuery
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_cmdb.transfer.apply import Import, Outcome
from opsbus_cmdb.transfer.commands import import_into
from opsbus_cmdb.transfer.read import MISTAKES_MAX, TransferError, read_files
from opsbus_cmdb.transfer.records import Kind
from opsbus_cmdb.transfer.write import write_csv, write_json

ORDER = Import(actor="ada", reason="test")


async def taken(url: str, *files: Path, order: Import = ORDER, dry_run: bool = False) -> Outcome:
    engine = open_engine(url)
    try:
        return await import_into(engine, read_files(list(files)), order, lambda *_: None, dry_run=dry_run)
    finally:
        await engine.dispose()


async def exported(url: str, folder: Path, form: str) -> list[Path]:
    kinds: list[Kind] = ["assets", "relationships", "windows"]
    engine = open_engine(url)
    files = [folder / f"{kind}.csv" for kind in kinds] if form == "csv" else [folder / "all.json"]
    try:
        for place, file in enumerate(files):
            with file.open("w", newline="") as out:
                async with engine.connect() as connection:
                    if form == "csv":
                        await write_csv(connection, out, kinds[place], lambda *_: None)
                    else:
                        await write_json(connection, out, kinds, lambda *_: None)
    finally:
        await engine.dispose()
    return files


def written(folder: Path, name: str, content: Any) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1))
    return path


async def everything(store: EmbeddedInventory) -> tuple[list[Any], list[Any]]:
    assets = (await store.find_assets(AssetQuery(), 500, None)).items
    plain = [asset.model_dump(exclude={"id", "updated_at", "version"}) for asset in assets]
    edges = (await store.topology("lab", TopologyQuery(direction=Direction.DEPENDENTS, depth=5, nodes_max=500))).edges
    return plain, sorted((e.from_id, e.type, e.to_id, e.impact, e.redundancy, e.source, e.last_seen) for e in edges)


@pytest.mark.parametrize("form", ["csv", "json"])
async def test_there_and_back(store: EmbeddedInventory, database_url: str, tmp_path: Path, form: str) -> None:
    files = await exported(database_url, tmp_path, form)
    same = await taken(database_url, *files)
    assert (same.new, same.changed) == ({}, {})
    assert same.same["assets"] == (await store.find_assets(AssetQuery(), 1, None)).total
    other = EmbeddedInventory(f"sqlite:///{tmp_path}/other.sqlite3")
    await other.create()
    outcome = await taken(f"sqlite:///{tmp_path}/other.sqlite3", *files)
    assert outcome.new == same.same
    assert await everything(other) == await everything(store)
    await other.close()


async def test_what_changes_is_kept_as_it_was_and_told_who_did_it(
    store: EmbeddedInventory, database_url: str, tmp_path: Path
) -> None:
    before = await store.get_asset("service:shop/cart")
    moment = datetime.now(UTC)
    file = written(tmp_path, "a.csv", "ref,owner_team,status\nservice:shop/cart,baskets,down\n")
    outcome = await taken(database_url, file)
    assert outcome.changed == {"assets": 1}
    after = await store.get_asset(before.id)
    assert (after.owner_team, after.status, after.version) == ("baskets", Status.DOWN, before.version + 1)
    assert after.attributes == before.attributes
    assert (await store.find_assets(AssetQuery(), 1, None)).items[0].ref == "service:shop/cart"
    then = (await store.find_assets(AssetQuery(filters={"ref": [before.ref]}, as_of=moment), 1, None)).items
    assert then == [before]
    engine = open_engine(database_url)
    async with engine.connect() as connection:
        (row,) = (await connection.execute(select(tables.asset_history))).all()
    await engine.dispose()
    assert (row.actor, row.field, row.after, row.reason) == ("ada", "several", "status, owner_team", "test")


async def test_only_that_it_was_seen_again_is_no_new_version(
    store: EmbeddedInventory, database_url: str, tmp_path: Path
) -> None:
    seen = "2030-01-01T00:00:00Z"
    outcome = await taken(
        database_url, written(tmp_path, "a.json", {"assets": [{"ref": "service:shop/cart", "last_seen": seen}]})
    )
    assert outcome.same == {"assets": 1}
    after = await store.get_asset("service:shop/cart")
    assert (after.version, after.last_seen) == (1, datetime(2030, 1, 1, tzinfo=UTC))


async def test_relationships_that_a_source_no_longer_lists_go_and_stay_in_the_past(
    store: EmbeddedInventory, database_url: str, tmp_path: Path
) -> None:
    moment = datetime.now(UTC)
    edges = [{"from": "service:shop/cart", "to": "service:shop/catalog", "type": "depends_on", "source": "tracing"}]
    file = written(tmp_path, "r.json", {"relationships": edges})
    assert (await taken(database_url, file)).new == {"relationships": 1}
    outcome = await taken(database_url, file, order=Import("ada", "test", prune=True))
    assert outcome.gone == {"relationships": sum(e.source == "tracing" for e in seed.estate("shop").relationships)}
    query = TopologyQuery(direction=Direction.DEPENDENCIES, depth=1)
    now = await store.topology("service:shop/checkout", query)
    then = await store.topology("service:shop/checkout", query.model_copy(update={"as_of": moment}))
    assert {n.asset.name for n in now.nodes} == {"checkout", "lab"}
    assert {n.asset.name for n in then.nodes} == {"checkout", "cart", "payments-api", "lab"}
    # What is gone may come back, and go again.
    again = {"from": "service:shop/checkout", "to": "service:shop/cart", "type": "depends_on", "source": "tracing"}
    for given, count in (([*edges, again], "new"), (edges, "gone")):
        outcome = await taken(
            database_url, written(tmp_path, "r.json", {"relationships": given}), order=Import("ada", "t", prune=True)
        )
        assert getattr(outcome, count) == {"relationships": 1}


async def test_a_dry_run_counts_and_writes_nothing(database_url: str, store: EmbeddedInventory, tmp_path: Path) -> None:
    file = written(tmp_path, "a.csv", "ref,status\nservice:shop/cart,down\nservice:shop/new,down\n")
    outcome = await taken(database_url, file, dry_run=True)
    assert (outcome.new, outcome.changed) == ({"assets": 1}, {"assets": 1})
    assert (await store.get_asset("service:shop/cart")).status is Status.OPERATIONAL


CSV_MISTAKES = """ref,status,criticality,confidence,last_seen,kind,label.app
service:shop/fine,down,high,0.5,2026-01-01T00:00:00Z,service,fine
service:shop/a,broken,high,,,,
no-ref,down,,,,,
service:shop/b,down,high,2,,,
"service:shop/c",down,high,,2026-01-01T00:00:00,,"two
lines"
service:shop/d,down,high,,,host,
service:shop/fine,down,,,,,
service:shop/e,down
"""


def test_every_mistake_of_a_csv_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(TransferError) as wrong:
        read_files([written(tmp_path, "a.csv", CSV_MISTAKES)])
    told = {mistake.line: str(mistake) for mistake in wrong.value.mistakes}
    assert sorted(told) == [3, 4, 5, 6, 8, 9, 10]
    for line, word in (
        (3, "status"),
        (4, "ref"),
        (5, "confidence"),
        (6, "zone"),
        (8, "host"),
        (9, "a.csv:2"),
        (10, "2 cells"),
    ):
        assert told[line].startswith(f"a.csv:{line}: ")
        assert word in told[line]


def test_every_mistake_of_a_json_has_its_line(tmp_path: Path) -> None:
    text = """{
  "assets": [
    {"ref": "service:shop/fine"},

    {"ref": "service:shop/a",
     "critcality": "high"},
    {"ref": "service:shop/b", "labels": {"a": 1}}, 7
  ],
  "changes": [],
  "relationships": [{"from": "x", "to": "x", "type": "depends_on"},
    {"from": "x", "to": "y", "type": "likes"}],
  "windows": [{"id": "w", "kind": "freeze", "title": "t", "start": "2026-01-02T00:00Z", "end": "2026-01-01T00:00Z"}]
}"""
    with pytest.raises(TransferError) as wrong:
        read_files([written(tmp_path, "a.json", text)])
    told = [(mistake.line, mistake.what) for mistake in wrong.value.mistakes]
    words = [
        (5, "did you mean criticality"), (7, "labels.a"), (7, "object"), (9, "changes"), (10, "same asset"),
        (11, "type"), (12, "after start"),
    ]  # fmt: skip
    assert [line for line, _ in told] == [line for line, _ in words]
    assert all(word in what for (_, what), (_, word) in zip(told, words, strict=True)), told


@pytest.mark.parametrize(
    ("name", "content", "line", "word"),
    [
        ("a.csv", "", 1, "empty"),
        ("a.csv", "name,owner\nx,y\n", 1, "assets"),
        ("a.csv", "ref,owner\nservice:a/b,y\n", 1, "owner_team"),
        ("a.csv", "ref,ref\nservice:a/b,y\n", 1, "two columns"),
        ("a.csv", 'ref,description\nservice:a/b,"never closed\n', 2, "CSV"),
        ("a.csv", "ref,description\nservice:a/b,\0\n", 2, "NUL"),
        ("a.json", "", 1, "JSON"),
        ("a.json", "[]", 1, "'{'"),
        ("a.json", '{"assets": [\n{"ref": "service:a/b"}\n{"ref": "service:a/c"}]}', 3, "','"),
        ("a.json", '{"assets": [\n{"ref": "service:a/b"},\n]}', 3, "JSON"),
        ("a.json", '{"assets": []}\n{}', 2, "more text"),
        ("a.json", '{"assets": [\n\n{"ref": "service:a/b", "confidence": NaN}]}', 3, "NaN"),
        ("a.json", '{"assets": [\n{"ref": "service:a/b", "attributes": {"x": "\\u0000"}}]}', 2, "NUL"),
        ("a.json", '{"assets": [\n' + "[" * 100_000, 2, "deep"),
        ("a.xml", "<assets/>", 1, ".csv or .json"),
    ],
)
def test_files_that_are_none(tmp_path: Path, name: str, content: str, line: int, word: str) -> None:
    with pytest.raises(TransferError) as wrong:
        read_files([written(tmp_path, name, content)])
    mistake = wrong.value.mistakes[0]
    assert mistake.line == line, mistake
    assert word in mistake.what


def test_not_utf8_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"ref,description\nservice:a/b,fine\nservice:a/c,\xff\n")
    with pytest.raises(TransferError) as wrong:
        read_files([tmp_path / "a.csv"])
    assert str(wrong.value) == "a.csv:3: not UTF-8"


def test_mistakes_are_bounded(tmp_path: Path) -> None:
    rows = "".join(f"service:a/{n},broken\n" for n in range(1_000))
    with pytest.raises(TransferError) as wrong:
        read_files([written(tmp_path, "a.csv", "ref,status\n" + rows)])
    assert (len(wrong.value.mistakes), wrong.value.more) == (MISTAKES_MAX, True)


@pytest.mark.parametrize(
    ("document", "line", "word"),
    [
        (
            {"relationships": [{"from": "service:shop/cart", "to": "service:shop/gone", "type": "depends_on"}]},
            3,
            "gone",
        ),
        ({"assets": [{"ref": "service:shop/cart", "id": "ast-other"}]}, 3, "recorded as"),
        ({"assets": [{"ref": "service:shop/x", "id": seed.asset_id("service:shop/cart")}]}, 3, "the id of"),
    ],
)
async def test_what_only_the_store_knows_to_be_wrong_imports_nothing(
    store: EmbeddedInventory, database_url: str, tmp_path: Path, document: dict[str, Any], line: int, word: str
) -> None:
    fine = written(tmp_path, "fine.csv", "ref,status\nservice:shop/catalog,down\n")
    with pytest.raises(TransferError) as wrong:
        await taken(database_url, fine, written(tmp_path, "b.json", document))
    (mistake,) = wrong.value.mistakes
    assert (mistake.file, mistake.line) == ("b.json", line)
    assert word in mistake.what
    assert (await store.get_asset("service:shop/catalog")).status is Status.OPERATIONAL


async def test_an_import_that_is_cut_off_leaves_nothing(
    store: EmbeddedInventory, database_url: str, tmp_path: Path
) -> None:
    class PulledError(Exception):
        pass

    def told(part: str, amount: int) -> None:
        if part == "relationships":
            raise PulledError

    edge = {"from": "service:shop/cart", "to": "service:shop/new", "type": "depends_on"}
    given = read_files(
        [written(tmp_path, "a.json", {"assets": [{"ref": "service:shop/new"}], "relationships": [edge]})]
    )
    engine = open_engine(database_url)
    with pytest.raises(PulledError):
        await import_into(engine, given, ORDER, told)
    await engine.dispose()
    assert "service:shop/new" not in {a.ref for a in (await store.find_assets(AssetQuery(), 500, None)).items}


def cmdb(url: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OPSBUS_", "DATABASE_"))}
    command = [sys.executable, "-m", "opsbus", "cmdb", *map(str, arguments), "--database-url", url]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=90, check=False)


async def test_the_commands(store: EmbeddedInventory, database_url: str, tmp_path: Path) -> None:
    async def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(cmdb, database_url, *arguments)

    out = tmp_path / "all.json"
    done = await run("export", out)
    assert (done.returncode, "assets" in done.stdout) == (0, True), done.stderr
    assert len(json.loads(out.read_text())["assets"]) == (await store.find_assets(AssetQuery(), 1, None)).total
    there = await run("export", out)
    assert there.returncode == 1
    assert "--force" in there.stderr
    imported = await run("import", out)
    assert (imported.returncode, "same" in imported.stdout) == (0, True), imported.stderr
    bad = written(tmp_path, "bad.csv", "ref,status\nservice:shop/cart,down\nservice:shop/x,broken\n")
    refused = await run("import", bad)
    assert refused.returncode == 1
    assert "bad.csv:3: status:" in refused.stderr
    assert "nothing was imported" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (await store.get_asset("service:shop/cart")).status is Status.OPERATIONAL
    missing = await run("import", tmp_path / "none.csv")
    assert (missing.returncode, "none.csv" in missing.stderr, "Traceback" in missing.stderr) == (1, True, False)
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".partial")]
