"""The parts of the runner on their own: folder, ports, keys, tokens, logs, what the user brought, who is told what."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jwt
import pytest

from opsbus.nats_client import without_password
from opsbus.up import labtokens, logfile, ports
from opsbus.up.advice import advice
from opsbus.up.folder import AlreadyRunningError, Folder, locked, read_json, write_private
from opsbus.up.installed import Installed
from opsbus.up.keyring import KeyFileError, open_keyring
from opsbus.up.model import Phase, Spec
from opsbus.up.plan import Plan, service_specs
from opsbus.up.surroundings import surroundings

SERVICES = [
    Installed("sandbox", "sandbox", "backend", 5, ()),
    Installed("k8s-ops", "k8s", "worker", 20, ("nats",)),
    Installed("cmdb", "cmdb", "worker", 20, ("nats",)),
    Installed("audit", "audit", "worker", 20, ("nats",)),
    Installed("edge", "edge", "edge", 90, ("nats",)),
]
SANDBOX = {
    "kubeconfig": "/lab/kubeconfig",
    "prometheus_url": "http://127.0.0.1:1",
    "alertmanager_url": "http://127.0.0.1:1/alertmanager",
    "grafana_url": "http://127.0.0.1:1/grafana",
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "data").create()


def specs_of(folder: Folder, **environment: str) -> dict[str, Spec]:
    keyring = open_keyring(folder, [service.token for service in SERVICES if service.kind != "backend"])
    plan = Plan(
        folder=folder,
        keyring=keyring,
        environment=environment,
        brought=surroundings(environment),
        nats_url="nats://127.0.0.1:4222",
        edge_port=8080,
        sandbox_facts=lambda: SANDBOX,
    )
    return {spec.name: spec for spec in service_specs(plan, SERVICES)}


def environment_of(spec: Spec) -> dict[str, str]:
    return dict(spec.command().env)


def test_workers_are_pointed_to_the_sandbox(folder: Folder) -> None:
    specs = specs_of(folder)
    found = environment_of(specs["k8s-ops"])
    assert found["KUBECONFIG"] == "/lab/kubeconfig"
    assert found["PROMETHEUS_URL"] == "http://127.0.0.1:1"
    assert found["GRAFANA_URL"] == "http://127.0.0.1:1/grafana"
    assert "sandbox" in specs["k8s-ops"].needs, "without it a worker would look for a real cluster"
    assert environment_of(specs["cmdb"])["OPSBUS_CMDB_SEED"] == "shop"
    assert environment_of(specs["cmdb"])["OPSBUS_CMDB_DATABASE_URL"] == f"sqlite:///{folder.state}/cmdb.sqlite3"
    assert environment_of(specs["audit"])["OPSBUS_AUDIT_DATABASE_URL"] == f"sqlite:///{folder.state}/audit.sqlite3"


def test_what_the_user_brought_is_used_instead(folder: Folder) -> None:
    brought = {"KUBECONFIG": "/home/me/.kube/config", "DATABASE_URL": "postgresql://db/opsbus", "GRAFANA_URL": ""}
    specs = specs_of(folder, **brought)
    found = environment_of(specs["k8s-ops"])
    assert found["KUBECONFIG"] == "/home/me/.kube/config"
    assert found["PROMETHEUS_URL"] == "http://127.0.0.1:1"
    assert found["GRAFANA_URL"] == "http://127.0.0.1:1/grafana", "set but empty is not set"
    assert "OPSBUS_CMDB_SEED" not in environment_of(specs["cmdb"]), "nobody's own database is filled with a shop"
    assert environment_of(specs["audit"])["OPSBUS_AUDIT_DATABASE_URL"] == "postgresql://db/opsbus"


def test_no_sandbox_when_nothing_is_left_for_it(folder: Folder) -> None:
    brought = dict.fromkeys(("KUBECONFIG", "PROMETHEUS_URL", "ALERTMANAGER_URL"), "https://real.example")
    assert "sandbox" in specs_of(folder, **brought)
    specs = specs_of(folder, **brought, GRAFANA_URL="https://real.example")
    assert "sandbox" not in specs
    assert "sandbox" not in specs["k8s-ops"].needs


@pytest.mark.parametrize("name", ["CMDB_URL", "OPSBUS_CMDB_NETBOX_URL"])
def test_a_cmdb_of_the_users_own_gets_no_seed(folder: Folder, name: str) -> None:
    specs = specs_of(folder, **{name: "https://cmdb.example"})
    assert not {"OPSBUS_CMDB_SEED", "OPSBUS_CMDB_DATABASE_URL"} & set(environment_of(specs["cmdb"]))


def test_the_sandbox_fetches_the_metrics_of_where_the_workers_listen(folder: Folder) -> None:
    specs = specs_of(folder)
    targets = json.loads(environment_of(specs["sandbox"])["OPSBUS_SANDBOX_SCRAPE_TARGETS"])
    listening = [environment_of(specs[name])["OPSBUS_HTTP_PORT"] for name in ("k8s-ops", "cmdb", "audit")]
    assert targets == [f"http://127.0.0.1:{port}/metrics" for port in (8080, *listening)]
    assert len(set(targets)) == 4


def test_only_the_edge_learns_of_the_edges_keys(folder: Folder) -> None:
    for name, spec in specs_of(folder).items():
        found = environment_of(spec)
        keys = {variable for variable in found if "KEY_FILE" in variable}
        if name == "audit":
            assert keys == {"OPSBUS_AUDIT_CHECKPOINT_KEY_FILE"}
        else:
            assert bool(keys) is (name == "edge")
        assert ("OPSBUS_NATS_SEED_FILE" in found) is (name != "sandbox")


def test_phases(folder: Folder) -> None:
    phases = {name: spec.phase for name, spec in specs_of(folder).items()}
    assert phases == {
        "sandbox": Phase.BACKEND,
        "k8s-ops": Phase.WORKER,
        "cmdb": Phase.WORKER,
        "audit": Phase.RECORD,
        "edge": Phase.EDGE,
    }
    assert set(specs_of(folder)["edge"].after) == {"k8s-ops", "cmdb", "audit"}


def test_the_folder_is_closed_to_others_again(tmp_path: Path) -> None:
    (tmp_path / "data" / "keys").mkdir(parents=True, mode=0o755)
    made = Folder(tmp_path / "data").create()
    assert made.keys.stat().st_mode & 0o777 == 0o700
    assert made.root.stat().st_mode & 0o777 == 0o700


def test_private_files_are_private_from_the_first_byte(folder: Folder) -> None:
    path = folder.root / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_private(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text() == "new"
    assert [found.name for found in folder.root.iterdir() if found.name.startswith(".secret")] == []


def test_the_lock_is_the_processs(folder: Folder) -> None:
    code = (
        "import sys, pathlib\nfrom opsbus.up.folder import Folder, locked\n"
        "with locked(Folder(pathlib.Path(sys.argv[1]))):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(folder.root)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(AlreadyRunningError, match=str(other.pid)), locked(folder):
        pass
    other.kill()
    other.communicate()
    with locked(folder):
        assert (folder.root / "lock").read_text() == str(os.getpid())


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\udcff"])
def test_a_half_written_file_is_no_object(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_json(tmp_path / "file") is None


def test_ports_are_remembered_while_they_are_free(tmp_path: Path) -> None:
    known = tmp_path / "ports.json"
    first = ports.remembered(known, "nats")
    assert ports.remembered(known, "nats") == first
    assert ports.remembered(known, "other") != first
    with socket.create_server(("127.0.0.1", first)):
        assert ports.remembered(known, "nats") != first
    known.write_text('{"nats": "nonsense"}')
    assert 0 < ports.remembered(known, "nats") < 65_536


def test_keys_are_made_once(folder: Folder) -> None:
    first = open_keyring(folder, ["k8s"])
    again = open_keyring(folder, ["k8s", "cmdb"])
    assert (first.made > 0, again.made) == (True, 1)
    assert first.users["k8s"] == again.users["k8s"]
    assert first.identity.kid == again.identity.kid != first.lab.kid
    assert "PRIVATE" not in first.lab_public_pem.read_text()
    assert len({*again.users.values()}) == len(again.users)
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.keys.iterdir())


@pytest.mark.parametrize("name", ["k8s.nk", "identity-signing.pem", "edge-seal.key", "lab-tokens.pem"])
def test_a_damaged_key_is_named_and_not_replaced(folder: Folder, name: str) -> None:
    open_keyring(folder, ["k8s"])
    (folder.keys / name).write_text("damaged")
    with pytest.raises(KeyFileError, match=name):
        open_keyring(folder, ["k8s"])
    assert (folder.keys / name).read_text() == "damaged"


def test_tokens_say_who_and_how_long(folder: Folder) -> None:
    keyring = open_keyring(folder, [])
    made = labtokens.mint(keyring.lab, "viewer", 3600, "ada")
    key = keyring.lab_public_pem.read_text()
    claims = jwt.decode(made.token, key, algorithms=["EdDSA"], audience="opsbus", issuer="opsbus")
    assert (claims["sub"], claims["roles"], claims["exp"] - claims["iat"]) == ("ada", ["viewer"], 3600)
    for lifetime_s in (0, -1, 59, 31 * 24 * 3600, float("nan")):
        with pytest.raises(ValueError, match="lives between"):
            labtokens.mint(keyring.lab, "viewer", lifetime_s)


def test_a_log_is_bounded_while_it_is_written(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"first\n" * 100)
        assert not logfile.bound(log, 1000)
        assert logfile.bound(log, 500)
        writer.write(b"second\n")
    assert log.read_text() == "second\n"
    assert (tmp_path / "worker.log.1").read_text().count("first") == 100
    assert not logfile.bound(tmp_path / "missing")


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_bytes(b"old\n" + b"x" * 200_000 + b"\n\n\xffone\ntwo\n")
    assert logfile.tail(log, 2) == ["\ufffdone", "two"]
    assert logfile.tail(log, 5, start=4)[-1] == "two"
    assert logfile.tail(log, 5, start=10**9)[-1] == "two", "a log that was cut is read from its beginning"
    assert logfile.tail(tmp_path / "missing", 5) == []


@pytest.mark.parametrize(
    ("code", "log_lines", "what", "hint"),
    [
        (-9, [], "SIGKILL", "memory"),
        (-11, [], "SIGSEGV", "its whole log"),
        (2, ["setting x: wrong"], "exit code 2", "setting"),
        (1, ["OSError: [Errno 98] Address already in use"], "exit code 1", "--port"),
        (1, ["ModuleNotFoundError: No module named 'x'"], "exit code 1", "make up"),
        (1, [], "exit code 1", "worker.log"),
    ],
)
def test_advice(folder: Folder, code: int, log_lines: list[str], what: str, hint: str) -> None:
    said = advice(code, log_lines, specs_of(folder)["cmdb"])
    assert what in said[0]
    assert (hint if hint != "worker.log" else "cmdb.log") in said[1]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://me:secret@bus.example:4222", "nats://bus.example:4222"),
        ("nats://token@a:1,nats://b:2", "nats://a:1,nats://b:2"),
        ("tls://[::1]:4222", "tls://[::1]:4222"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
