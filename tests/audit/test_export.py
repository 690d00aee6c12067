"""``opsbus audit export``: the exact bytes, readable forms without traps, a manifest that a change breaks."""

import asyncio
import base64
import csv
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from typer.testing import CliRunner

from opsbus.testing.bus import Bus
from opsbus_audit.cli import app
from opsbus_audit.export.flat import COLUMNS
from opsbus_audit.export.forms import Parquet, cell, has_parquet
from opsbus_audit.export.manifest import KeyFileError, problems, signing_key
from opsbus_audit.export.ocsf import ocsf
from opsbus_audit.ordered import Recorded

HOSTILE = '=HYPERLINK("http://evil.example","x")'


async def export(bus: Bus, folder: Path, *words: str) -> tuple[int, str]:
    """The command as typed; exit code and what it said."""
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("auditor"))}
    environment |= {"OPSBUS_DATA": str(folder / "data"), "OPSBUS_AUDIT_DATABASE_URL": ""}
    arguments = ["export", "--out", str(folder / "out"), *words]
    done = await asyncio.to_thread(CliRunner().invoke, app, arguments, env=environment)
    return done.exit_code, done.stderr


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
async def exported(bus: Bus, edge: Any, tmp_path: Path) -> Path:
    """Three events and what is no event, exported."""
    await edge.write("requested", tool="k8s_scale_deployment", mutating=True, reason=HOSTILE, actor=HOSTILE)
    await edge.write("completed", tool="k8s_scale_deployment", mutating=True, duration_ms=12.5, service="k8s")
    await edge.raw(b"\xff\x00 no event", headers={"Nats-Msg-Id": "odd-1"})
    await edge.write("denied", tool="k8s_get_pods", error="forbidden", message="no", address="192.0.2.7")
    code, err = await export(bus, tmp_path, "--forms", "csv,ocsf")
    assert code == 0, err
    return tmp_path / "out"


async def test_the_exact_bytes_and_nothing_else(bus: Bus, exported: Path) -> None:
    found = lines(exported / "events.ndjson")
    js = await bus.jetstream("auditor")
    for line in found:
        message = await js.get_msg("AUDIT", seq=line["seq"])
        assert base64.b64decode(line["data"]) == message.data
        assert line["subject"] == message.subject
        assert line["id"] == (message.headers or {}).get("Nats-Msg-Id", "")
        assert set(line) == {"seq", "subject", "time", "id", "data"}
    assert [line["seq"] for line in found] == [1, 2, 3, 4, 5]
    assert found[4]["subject"] == "audit.auditor.exported"


async def test_no_cell_is_a_formula(exported: Path) -> None:
    text = (exported / "events.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["reason"] == f"'{HOSTILE}"
    assert rows[0]["actor"] == f"'{HOSTILE}"
    assert rows[1]["duration_ms"] == "12.5"
    assert rows[2]["unreadable"] == "True"
    assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for value in row.values())


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff20a"]
)
def test_formulas_are_text(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["plain", "", "a=b", 12, -3.5, True, None])
def test_other_cells_stay_as_they_are(value: Any) -> None:
    assert cell(value) == value


REQUIRED = {
    "activity_id": int, "category_uid": int, "class_uid": int, "type_uid": int, "severity_id": int, "time": int,
    "metadata": dict, "actor": dict, "api": dict, "src_endpoint": dict,
}  # fmt: skip
OPTIONAL = {
    "activity_name", "category_name", "class_name", "type_name", "severity", "status", "status_id", "status_code",
    "status_detail", "duration", "resources", "dst_endpoint", "message", "unmapped",
}  # fmt: skip


def check_ocsf(event: dict[str, Any]) -> None:
    """What the published class API Activity asks of an event (schema.ocsf.io, 1.3.0)."""
    for name, kind in REQUIRED.items():
        assert type(event[name]) is kind, name
    assert set(event) <= set(REQUIRED) | OPTIONAL
    assert (event["class_uid"], event["category_uid"]) == (6003, 6)
    assert event["activity_id"] in (0, 1, 2, 3, 4, 99)
    assert event["type_uid"] == 600300 + event["activity_id"]
    assert event["severity_id"] in (0, 1, 2, 3, 4, 5, 6, 99)
    assert event["status_id"] in (0, 1, 2, 99)
    assert event["metadata"]["version"] == "1.3.0"
    assert event["metadata"]["product"]["vendor_name"]
    assert event["metadata"].keys() <= {
        "version", "product", "log_name", "log_provider", "uid", "sequence", "logged_time", "original_time",
        "correlation_uid",
    }  # fmt: skip
    assert event["api"]["operation"]
    assert event["api"].keys() <= {"operation", "request", "response", "service"}
    assert event["api"]["request"]["uid"]
    assert event["api"].get("response", {"code": 0}).keys() <= {"code", "error", "error_message"}
    assert event["actor"]["user"].keys() & {"uid", "name"}
    assert event["src_endpoint"].keys() & {"ip", "name"}


async def test_ocsf_keeps_to_the_published_class(exported: Path) -> None:
    found = lines(exported / "ocsf.ndjson")
    for event in found:
        check_ocsf(event)
    assert [event["activity_id"] for event in found] == [3, 3, 2, 99]
    assert [event["status_id"] for event in found] == [0, 1, 2, 0]
    assert found[2]["src_endpoint"]["ip"] == "192.0.2.7"
    assert found[2]["api"]["response"]["code"] == 403


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"stage": "completed", "tool": "k8s_delete_pod", "mutating": True},
        {"stage": "key_changed", "method": "platform", "target": "key-1"},
        {"stage": "of_a_later_release", "duration_ms": "?", "roles": "?"},
        {"stage": "unknown", "actor": None, "call": None},
    ],
)
def test_ocsf_of_odd_events(data: dict[str, Any]) -> None:
    check_ocsf(ocsf(Recorded(1, 1_700_000_000_000_000_000, "audit.edge.x", None, b""), {"data": data, "time": "?"}))


async def test_the_manifest_tells_what_is_in_it_and_is_signed(bus: Bus, exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    assert manifest["events"] == 5
    assert manifest["unreadable"] == 1
    assert manifest["range"]["first"] == 1
    assert manifest["range"]["last"] == 5
    assert manifest["files"]["events.ndjson"]["events"] == 5
    assert set(manifest["files"]) == {"events.ndjson", "events.csv", "ocsf.ndjson"}
    key = signing_key(exported.parent / "data" / "keys" / "audit-export.pem")
    assert problems(exported, key.public_key()) == []


@pytest.mark.parametrize("name", ["events.ndjson", "events.csv", "ocsf.ndjson", "manifest.json", "manifest.sig"])
async def test_a_changed_file_is_found(exported: Path, name: str) -> None:
    key = signing_key(exported.parent / "data" / "keys" / "audit-export.pem").public_key()
    content = bytearray((exported / name).read_bytes())
    content[len(content) // 2] ^= 1
    (exported / name).write_bytes(content)
    assert problems(exported, key)
    other = signing_key(exported.parent / "other.pem").public_key()
    assert problems(exported, other) == ["manifest.sig is not this key's signature of manifest.json"]


async def test_a_missing_and_an_added_file_are_found(exported: Path) -> None:
    key = signing_key(exported.parent / "data" / "keys" / "audit-export.pem").public_key()
    (exported / "events.csv").rename(exported / "more.csv")
    assert problems(exported, key) == ["events.csv is missing", "more.csv does not belong to the export"]


async def test_openssl_checks_the_signature(exported: Path) -> None:
    public = exported.parent / "data" / "keys" / "audit-export.pub.pem"
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
    command += ["-in", "manifest.json", "-sigfile", "manifest.sig"]
    try:
        done = await asyncio.to_thread(subprocess.run, command, cwd=exported, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert done.returncode == 0, done.stderr


async def test_exporting_is_recorded_with_what_was_asked(bus: Bus, edge: Any, tmp_path: Path) -> None:
    await edge.write("completed", actor="ada")
    await edge.write("completed", actor="bob")
    code, err = await export(bus, tmp_path, "--actor", "ada", "--forms", "ndjson")
    assert code == 0, err
    assert [line["seq"] for line in lines(tmp_path / "out" / "events.ndjson")] == [1]
    recorded = json.loads((await (await bus.jetstream("auditor")).get_msg("AUDIT", seq=3)).data)
    assert recorded["data"]["stage"] == "exported"
    assert recorded["data"]["details"]["question"] == {"actor": "ada"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--forms", "xls"), "--forms 'xls' is not known"),
        (("--sign-key", "/dev/null"), "holds no unencrypted private key"),
        (("--since", "yesterday"), "--since"),
    ],
)
async def test_wrong_words_end_in_a_hint(bus: Bus, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    code, err = await export(bus, tmp_path, *words)
    assert code == 1
    assert told in err
    assert not (tmp_path / "out").exists()


async def test_no_export_over_another(bus: Bus, exported: Path) -> None:
    code, err = await export(bus, exported.parent)
    assert code == 1
    assert "an export goes into a new folder" in err


def test_another_kind_of_key_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    with pytest.raises(KeyFileError, match="no Ed25519 key"):
        signing_key(tmp_path / "key.pem")


@pytest.mark.skipif(not has_parquet(), reason="pyarrow is not installed")
def test_parquet_has_the_columns_and_their_kinds(tmp_path: Path) -> None:
    import pyarrow.parquet

    form = Parquet(tmp_path)
    data = {"stage": "completed", "actor": "ada", "duration_ms": 3, "mutating": True, "arguments": {"a": 1}}
    recorded = Recorded(7, 1_700_000_000_000_000_000, "audit.edge.completed", None, b"")
    form.add(recorded, {"data": data, "id": "e-7"})
    form.add(recorded, None)
    facts = form.close()
    table = pyarrow.parquet.read_table(tmp_path / "events.parquet").to_pylist()
    assert facts["events"] == len(table) == 2
    assert table[0]["duration_ms"] == 3.0
    assert json.loads(table[0]["arguments"]) == {"a": 1}
    assert table[1]["unreadable"] is True
    assert table[1]["actor"] is None
