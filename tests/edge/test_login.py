"""``opsbus login`` at the terminal. The directory is a table of one user here; a real one is in test_ldap.py."""

import asyncio
import os
import pty
import stat
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from opsbus import Context, Worker, logins
from opsbus.cli import app
from opsbus.commands.where import edge_access
from opsbus.identity import Signer
from opsbus.testing.certificates import Authority
from opsbus_edge.sign_in.endpoint import SignIn
from opsbus_edge.sign_in.found import Found
from opsbus_edge.sign_in.throttle import Throttle

PASSWORD = "correct horse battery"


class Table:
    """A directory with one user."""

    async def check(self, user: str, password: str) -> Found | None:
        return Found("ada", ("operator",)) if (user, password) == ("ada", PASSWORD) else None


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without a past."""
    for name in ("OPSBUS_URL", "OPSBUS_TOKEN", "OPSBUS_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("OPSBUS_DATA", str(tmp_path / "nothing"))
    return tmp_path


@pytest.fixture
async def edge(run_edge: Any, tmp_path: Path, run_worker: Any) -> Any:
    """An edge over TLS with a directory and a worker."""
    authority = Authority(tmp_path / "ca")
    server = authority.issue("edge", names=["127.0.0.1"], server=True)
    key = tmp_path / "token.pem"
    key.write_bytes(Signer.generate().pem())
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="tools:read", read_only=True)
    async def whoami(ctx: Context) -> dict[str, str]:
        """Who calls."""
        return {"sub": ctx.identity.sub, "auth": ctx.identity.auth}

    settings = {"tls_cert_file": server.cert, "tls_key_file": server.key, "token_key_file": key}
    async with run_worker(worker), run_edge(**settings) as running:
        parts = running.edge
        tokens = parts.authenticator._proofs[1]
        parts.sign_in = SignIn(Table(), tokens, Throttle(5, 50, 300), parts.nc, parts.metrics, names=True)  # type: ignore[arg-type]
        await running.knows("demo_whoami")
        running.ca = str(authority.ca)
        yield running


async def run(*arguments: str, given: str = "", **environment: str) -> Any:
    invoke = CliRunner().invoke
    result = await asyncio.to_thread(invoke, app, list(arguments), input=given, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


async def test_login_call_and_logout(edge: Any) -> None:
    at = ["--edge", edge.url + "/mcp", "--user", "ada", "--ca", edge.ca, "--password-stdin"]
    done = await run("login", *at, given=PASSWORD + "\n")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"signed in at {edge.url} as ada (operator) for 15 minutes\n"
    assert PASSWORD not in done.stdout + done.stderr
    path = logins.file()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert PASSWORD not in path.read_text()
    assert logins.find(edge.url).token not in done.stdout + done.stderr
    for named in ([], ["--url", edge.url]):  # by itself the edge of the latest sign-in
        called = await run("call", "demo_whoami", "--json", *named)
        assert called.exit_code == 0, called.stderr
        assert '"sub": "ada"' in called.stdout
        assert '"auth": "ldap"' in called.stdout
    out = await run("logout", "--edge", edge.url)
    assert out.stdout == f"signed out of {edge.url}\n"
    assert (await run("call", "demo_whoami")).exit_code == 2
    assert "not signed in" in (await run("logout", "--edge", edge.url)).stdout


async def test_the_terminal_does_not_show_the_password(edge: Any, home: Path) -> None:
    def child() -> tuple[int, bytes]:
        environment = os.environ | {"OPSBUS_CA": edge.ca}
        pid, terminal = pty.fork()
        if pid == 0:
            command = [sys.executable, "-m", "opsbus", "login", "--edge", edge.url, "--user", "ada"]
            os.execve(sys.executable, command, environment)
        seen = b""
        while b"Password:" not in seen:
            seen += os.read(terminal, 1024)
        os.write(terminal, PASSWORD.encode() + b"\n")
        try:
            while part := os.read(terminal, 1024):
                seen += part
        except OSError:  # Linux's way to say that the other end is closed
            pass
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), seen

    code, seen = await asyncio.to_thread(child)
    assert code == 0, seen
    assert b"signed in" in seen
    assert PASSWORD.encode() not in seen


async def test_what_can_go_wrong_is_said_in_a_line(edge: Any) -> None:
    at = ["--edge", edge.url, "--user", "ada", "--password-stdin"]
    wrong = await run("login", *at, "--ca", edge.ca, given="guess\n")
    assert (wrong.exit_code, "wrong" in wrong.stderr) == (4, True)
    assert (await run("login", *at, "--ca", edge.ca, given="\n")).exit_code == 2
    stranger = await run("login", *at, given=PASSWORD + "\n")
    assert stranger.exit_code == 3
    assert "not trusted" in stranger.stderr
    assert "--ca" in stranger.stderr
    no_ca = await run("login", *at, "--ca", __file__, given=PASSWORD + "\n")
    assert no_ca.exit_code == 2, no_ca.stderr
    edge.edge.sign_in = None
    none = await run("login", *at, "--ca", edge.ca, given=PASSWORD + "\n")
    assert "takes no passwords" in none.stderr
    assert not logins.file().exists()


@pytest.mark.parametrize("url", ["http://ops.shop.example", "http://10.1.2.3:8080", "ftp://127.0.0.1", "", "ops"])
async def test_no_password_crosses_the_network_in_the_clear(url: str) -> None:
    result = await run("login", "--edge", url, "--user", "ada", "--password-stdin", given=PASSWORD + "\n")
    assert result.exit_code == 2
    assert "in the clear" in result.stderr


def test_tokens_go_to_the_edge_that_gave_them_alone(home: Path) -> None:
    nothing = home / "nothing"
    later = int(time.time()) + 600
    logins.save(logins.Login(url="https://one.example", token="t1", expires=later, sub="ada", ca="/ca.pem"))
    logins.save(logins.Login(url="https://two.example", token="t2", expires=later, sub="ada"))
    assert edge_access("", "", nothing).token == "t2"
    assert edge_access("https://one.example/", "", nothing).token == "t1"
    assert edge_access("https://one.example", "mine", nothing).token == "mine"
    assert edge_access("https://three.example", "", nothing).token == ""
    assert edge_access("https://one.example.evil.example", "", nothing).token == ""
    logins.save(logins.Login(url="https://one.example", token="t1", expires=1, sub="ada"))
    over = edge_access("https://one.example", "", nothing)
    assert (over.token, over.over) == ("", True)


async def test_an_expired_sign_in_says_what_to_do() -> None:
    logins.save(logins.Login(url="https://one.example", token="t1", expires=1, sub="ada"))
    result = await run("call", "demo_whoami")
    assert result.exit_code == 4
    assert "opsbus login --edge https://one.example" in result.stderr


def test_a_damaged_file_is_no_sign_in() -> None:
    logins.file().parent.mkdir(parents=True)
    logins.file().write_text("{")
    assert logins.find() is None
