"""``opsbus up`` with a real NATS server and made-up services: what it says, writes, protects and leaves behind."""

import codecs
import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jwt
import pytest

from opsbus.testing.ports import free_port
from opsbus_contracts.streams import BUCKETS, CONSUMERS, OBJECT_STORES, STREAMS

OPSBUS = (sys.executable, "-m", "opsbus")

FAKES = """
    import sys
    from opsbus.service import Service

    sys.path.insert(0, {tests!r})

    def run(*words):
        def main():
            import os
            from fake_service import main as fake
            sys.argv = ["fake", os.environ["OPSBUS_READY_FILE"], *words]
            fake()
        return main

    worker = Service("fakework", "fakework", run({words}), order=20)
    edge = Service("fakeedge", "edge", run(), order=90, kind="edge")
"""


@pytest.fixture(scope="session")
def fakes(package: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
    def install(*words: str) -> dict[str, str]:
        code = FAKES.format(tests=str(Path(__file__).parent), words=", ".join(map(repr, words)))
        return package("fakes", code, services={"fakework": "fakes:worker", "fakeedge": "fakes:edge"})

    return install


class Up:
    """A running ``opsbus up`` and what it has said so far."""

    def __init__(self, folder: Path, environment: dict[str, str], *options: str) -> None:
        self.data = folder / "data"
        command = [*OPSBUS, "up", "--data", str(self.data), "--only", "fakework,fakeedge", *options]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self.output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # what is read may end within a character

    def read_until(self, pattern: str, timeout_s: float = 60.0) -> str:
        assert self.process.stdout is not None
        descriptor, ends = self.process.stdout.fileno(), time.monotonic() + timeout_s
        while not re.search(pattern, self.output):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, ends - time.monotonic()))
            chunk = os.read(descriptor, 65_536) if ready else b""
            if not chunk:
                raise AssertionError(f"no {pattern!r} in:\n{self.output}")
            self.output += self._decoder.decode(chunk)
        return self.output

    def end(self, timeout_s: float = 60.0) -> int:
        rest, _ = self.process.communicate(timeout=timeout_s)
        self.output += self._decoder.decode(rest, final=True)
        return self.process.returncode

    def run_file(self) -> dict:
        return json.loads((self.data / "run.json").read_text())

    def left_behind(self) -> list[str]:
        """Processes that carry this folder in their environment or command line."""
        found = []
        for entry in Path("/proc").iterdir() if sys.platform == "linux" else ():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                    if str(self.data).encode() in text:
                        found.append((entry / "cmdline").read_text().replace("\0", " "))
        return found


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(environment: dict[str, str], *options: str) -> Up:
        started.append(Up(tmp_path, environment, *options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        if one.process.stdout is not None:
            one.process.stdout.close()


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, "it did not come to it"
        time.sleep(0.02)


def test_from_start_to_ctrl_c(up: Callable[..., Up], fakes: Callable[..., dict[str, str]]) -> None:
    port = free_port()
    running = up(fakes(), "--port", str(port))
    said = running.read_until("Ctrl-C stops")

    order = [
        said.index(f"✓ {name}") for name in ("services", "keys", "nats-server", "provision", "fakework", "fakeedge")
    ]
    assert order == sorted(order), said
    assert f"{len(STREAMS + BUCKETS + OBJECT_STORES + CONSUMERS)} streams and buckets created" in said
    assert f"http://127.0.0.1:{port}/mcp" in said
    facts = running.run_file()
    assert facts["mcp_url"] == f"http://127.0.0.1:{port}/mcp"
    assert set(facts["pids"]) == {"nats-server", "fakework", "fakeedge"}
    assert set(facts["seeds"]) >= {"edge", "fakework", "auditor", "operator", "provisioner"}
    for role in ("viewer", "operator", "admin"):
        assert facts["tokens"][role] in said

    running.process.send_signal(signal.SIGINT)
    assert running.end() == 0
    stopped = running.output[running.output.index("Stopping") :]
    order = [stopped.index(f"✓ {name}") for name in ("fakeedge", "fakework", "nats-server")]
    assert order == sorted(order), stopped
    assert not (running.data / "run.json").exists()
    assert running.left_behind() == []


def test_what_a_running_platform_shows_and_hides(up: Callable[..., Up], fakes: Callable[..., dict[str, str]]) -> None:
    environment = fakes() | {"OPSBUS_NATS_SEED_FILE": "/nonsense", "OPSBUS_HTTP_PORT": "1"}
    running = up(environment, "--port", str(free_port()))
    running.read_until("Ctrl-C stops")
    worker = json.loads((running.data / "ready" / "fakework.json").read_text())["environment"]
    edge = json.loads((running.data / "ready" / "fakeedge.json").read_text())["environment"]

    _all_is_for_its_owner_alone(running.data)
    _each_service_has_its_own_key(worker, edge, running.run_file()["nats_url"])
    _tokens_hold_against_the_key_the_edge_gets(running, edge)
    _a_second_one_steps_back(up(environment), running)


def _all_is_for_its_owner_alone(data: Path) -> None:
    loose = []
    for path in [data, *data.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # the server's passing files
            if stat.S_IMODE(path.stat().st_mode) & 0o077 and path.name != "jetstream":
                loose.append(str(path.relative_to(data)))
    assert loose == []


def _each_service_has_its_own_key(worker: dict[str, str], edge: dict[str, str], nats_url: str) -> None:
    assert worker["OPSBUS_NATS_SEED_FILE"].endswith("keys/fakework.nk")
    assert edge["OPSBUS_NATS_SEED_FILE"].endswith("keys/edge.nk")
    assert not any("EDGE" in name for name in worker), "a worker must not learn where the edge's keys are"
    assert worker["OPSBUS_HTTP_PORT"] != "1"
    assert "OPSBUS_HTTP_PORT" not in edge
    assert worker["NATS_URL"] == edge["NATS_URL"] == nats_url


def _tokens_hold_against_the_key_the_edge_gets(running: Up, settings: dict[str, str]) -> None:
    [key_file] = json.loads(settings["OPSBUS_EDGE_JWT_PUBLIC_KEY_FILES"])
    for role, token in running.run_file()["tokens"].items():
        claims = jwt.decode(
            token,
            Path(key_file).read_text(),
            algorithms=["EdDSA"],
            issuer=settings["OPSBUS_EDGE_JWT_ISSUER"],
            audience=settings["OPSBUS_EDGE_JWT_AUDIENCE"],
        )
        assert claims["roles"] == [role]
        assert 11.9 * 3600 < claims["exp"] - time.time() <= 12 * 3600
        assert (running.data / "tokens" / role).read_text().strip() == token


def _a_second_one_steps_back(second: Up, first: Up) -> None:
    assert second.end() == 1
    assert f"already running on {first.data} (pid {first.process.pid})" in second.output
    assert "--data" in second.output
    assert first.process.poll() is None
    assert first.run_file()["pid"] == first.process.pid


def test_keys_and_ports_are_kept(up: Callable[..., Up], fakes: Callable[..., dict[str, str]]) -> None:
    environment = fakes()
    facts = []
    for _ in range(2):
        running = up(environment, "--port", str(free_port()))
        running.read_until("Ctrl-C stops")
        facts.append((running.run_file()["nats_url"], (running.data / "keys" / "fakework.nk").read_text()))
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
    assert facts[0] == facts[1]
    assert "kept from before" in running.output
    assert "nothing to change" in running.output


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_nothing_is_left_when_the_runner_is_killed(up: Callable[..., Up], fakes: Callable[..., dict[str, str]]) -> None:
    environment = fakes()
    running = up(environment, "--port", str(free_port()))
    running.read_until("Ctrl-C stops")
    assert len(running.left_behind()) == 4
    running.process.kill()
    running.process.wait()
    until(lambda: running.left_behind() == [])

    again = up(environment, "--port", str(free_port()))  # the folder is free, and what was left in it harms nobody
    again.read_until("Ctrl-C stops")
    assert again.run_file()["pid"] == again.process.pid


def test_a_dead_worker_comes_back_and_the_second_ctrl_c_ends_at_once(
    up: Callable[..., Up], fakes: Callable[..., dict[str, str]]
) -> None:
    running = up(fakes("deaf"), "--port", str(free_port()))
    running.read_until("Ctrl-C stops")
    os.kill(running.run_file()["pids"]["fakework"], signal.SIGKILL)
    said = running.read_until(r"starts again in 0\.5 s[\s\S]*✓ fakework")
    assert "hello from the fake service" in said

    running.process.send_signal(signal.SIGINT)
    until(lambda: "not listening" in (running.data / "log" / "fakework.log").read_text())
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 130
    assert running.left_behind() == []


def test_a_worker_that_cannot_start_is_shown_and_the_rest_runs(
    up: Callable[..., Up], fakes: Callable[..., dict[str, str]]
) -> None:
    running = up(fakes("die_at_start", "2"), "--port", str(free_port()))
    said = running.read_until("Ctrl-C stops")
    assert "fakework ended with exit code 2; given up" in said
    assert "setting port: 'x' is no number" in said
    assert "without fakework: see above" in said
    assert "✓ fakeedge" in said


def test_a_taken_port_is_said(up: Callable[..., Up], fakes: Callable[..., dict[str, str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        running = up(fakes(), "--port", str(port))
        assert running.end() == 1
    assert f"port {port} is taken" in running.output
    assert running.left_behind() == []


@pytest.mark.parametrize("code", [0, 3])
def test_once_ready_runs_a_command_and_stops(
    up: Callable[..., Up], fakes: Callable[..., dict[str, str]], code: int
) -> None:
    running = up(fakes(), "--port", str(free_port()), "--once-ready", f'echo "data in $OPSBUS_DATA"; exit {code}')
    assert running.end() == code
    assert f"data in {running.data}" in running.output
    assert running.left_behind() == []


def test_a_service_nobody_installed_is_named(up: Callable[..., Up], fakes: Callable[..., dict[str, str]]) -> None:
    running = up(fakes(), "--only", "fakework,nonsense")
    assert running.end() == 1
    assert "no service 'nonsense' is installed" in running.output


def test_a_damaged_key_is_named(up: Callable[..., Up], fakes: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "data" / "keys").mkdir(parents=True)
    (tmp_path / "data" / "keys" / "edge.nk").write_text("garbage")
    running = up(fakes())
    assert running.end() == 1
    assert "edge.nk holds no nkey seed" in running.output


def test_a_foreign_bus_is_used_and_not_stopped(
    up: Callable[..., Up], fakes: Callable[..., dict[str, str]], opsbus_open_server: str
) -> None:
    running = up(fakes() | {"NATS_URL": opsbus_open_server}, "--port", str(free_port()))
    running.read_until("Ctrl-C stops")
    assert "nats-server" not in running.run_file()["pids"]
    assert running.run_file()["nats_url"] == opsbus_open_server
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 0
    host, port = opsbus_open_server.removeprefix("nats://").split(":")
    with socket.create_connection((host, int(port)), 5) as alive:
        assert alive.recv(4) == b"INFO"


def test_a_bus_that_is_not_there_is_said(up: Callable[..., Up], fakes: Callable[..., dict[str, str]]) -> None:
    running = up(fakes() | {"NATS_URL": f"nats://me:secret@127.0.0.1:{free_port()}"})
    assert running.end() == 1
    assert "no NATS server answers" in running.output
    assert "secret" not in running.output


@pytest.fixture
def opsbus_open_server(tmp_path: Path) -> Iterator[str]:
    from opsbus.nats_server import binary

    port = free_port()
    process = subprocess.Popen(
        [str(binary()), "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(tmp_path / "store")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        until(answers)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_on_a_terminal_the_lines_change_in_place(fakes: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    environment = fakes() | {"TERM": "xterm-256color", "COLUMNS": "100"}
    command = [
        *OPSBUS,
        "up",
        "--data",
        str(tmp_path / "data"),
        "--only",
        "fakework,fakeedge",
        "--port",
        str(free_port()),
    ]
    main, child = pty.openpty()
    process = subprocess.Popen(
        command, env=environment, stdin=child, stdout=child, stderr=child, start_new_session=True
    )
    os.close(child)
    said = b""
    try:
        ends = time.monotonic() + 60
        while b"Ctrl-C stops" not in said:
            assert time.monotonic() < ends, said.decode()
            if select.select([main], [], [], 1.0)[0]:
                said += os.read(main, 65_536)
        os.write(main, b"\x03")
        process.send_signal(signal.SIGINT)  # a new session has no terminal of its own to pass Ctrl-C on
        while b"Stopped." not in said:
            assert time.monotonic() < ends, said.decode()
            if select.select([main], [], [], 1.0)[0]:
                said += os.read(main, 65_536)
        assert process.wait(30) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(main)
    text = said.decode()
    assert "\x1b[1A" in text, "the block is not redrawn in place"
    assert "fakework" in text
    assert "fakeedge" in text
    assert "\x1b[?25h" in text, "the cursor stays hidden"
