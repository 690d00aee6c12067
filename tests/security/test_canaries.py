"""Secrets are planted everywhere, the platform's processes work and fail with them, and everything that any of them
emitted is searched: logs, traces, metrics, health, errors, events, the record, what is kept on the bus, doctor's words.
"""

import asyncio
import json
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import nats.js.errors
import pytest
from typer.testing import CliRunner

from opsbus.cli import app
from opsbus.identity import Signer
from opsbus.testing.bus import Bus
from opsbus.testing.ports import free_port

START_S = 120.0
WORKER = """
from opsbus import Context, Settings, ToolError, ErrorCode, Worker
from pydantic import SecretStr

class Mine(Settings):
    vault_token: SecretStr = SecretStr("")

worker = Worker("test", version="1.0.0", settings=Mine)

@worker.tool(permission="test:write")
async def rotate(ctx: Context, password: str, api_key: str = "", credentials: dict[str, str] | None = None,
                 retries: int = 0) -> str:
    '''Takes secrets and says nothing about them.'''
    ctx.log.info("rotating", password=password, settings=ctx.settings, credentials=credentials)
    await ctx.emit("rotated", {"user": "ada"}, subject="ada")
    return "done"

@worker.tool(permission="test:read", read_only=True)
async def fail(ctx: Context, token: str) -> str:
    '''Fails, with secrets at hand.'''
    secret = ctx.settings.vault_token.get_secret_value()
    raise ToolError(ErrorCode.UPSTREAM, f"the vault does not answer ({len(secret)} characters were sent)")

@worker.tool(permission="test:read", read_only=True)
async def crash(ctx: Context, token: str) -> str:
    '''Breaks, with a secret in its settings.'''
    raise RuntimeError(f"broken with {ctx.settings}")

worker.run()
"""


class Planted:
    """Secrets by name, and what was emitted by where."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}
        self.emitted: dict[str, bytes] = {}

    def new(self, name: str) -> str:
        """A secret that is nowhere else."""
        return self.keep(name, f"canary{secrets.token_hex(12)}")

    def keep(self, name: str, value: str) -> str:
        self.secrets[name] = value
        return value

    def heard(self, where: str, what: bytes | str) -> None:
        self.emitted[where] = self.emitted.get(where, b"") + (what.encode() if isinstance(what, str) else what)

    def found(self) -> list[str]:
        """``secret in place`` for each that got out."""
        return [
            f"{name} in {where}"
            for where, what in self.emitted.items()
            for name, value in self.secrets.items()
            if value.encode() in what
        ]


class Process:
    """A process of the platform and all it says."""

    def __init__(self, name: str, folder: Path, command: list[str], environment: dict[str, str]) -> None:
        self.name = name
        self.ready_file = folder / f"{name}.ready"
        self.said = folder / f"{name}.log"
        self._command = command
        self._environment = environment | {"OPSBUS_READY_FILE": str(self.ready_file)}

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Process"]:
        """Started, until the block ends."""
        with self.said.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *self._command, env=self._environment, stdout=out, stderr=out, stdin=asyncio.subprocess.DEVNULL
            )
        try:
            async with asyncio.timeout(START_S):
                while not self.ready_file.exists() and process.returncode is None:
                    await asyncio.sleep(0.05)
            yield self
        finally:
            if process.returncode is None:
                process.terminate()
                try:
                    await asyncio.wait_for(process.wait(), 30)
                except TimeoutError:
                    process.kill()
                    await process.wait()

    @property
    def url(self) -> str:
        """Empty when it is not ready."""
        return json.loads(self.ready_file.read_text())["http_url"] if self.ready_file.exists() else ""


@pytest.fixture
def planted() -> Planted:
    return Planted()


@pytest.fixture
async def collector(planted: Planted) -> AsyncIterator[str]:
    """Takes traces."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            planted.heard("traces", data)
            if data.endswith(b"\r\n\r\n") or b"\r\n\r\n" in data:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()


async def cli(planted: Planted, *arguments: str, **environment: str) -> str:
    """A command's standard output; what it shows counts as emitted unless it is there to show a secret."""
    result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=environment)
    planted.heard(f"opsbus {arguments[0]}", result.stderr)
    return result.stdout


@pytest.mark.timeout(300)  # five processes at once, and their ends
async def test_no_secret_gets_out(bus: Bus, planted: Planted, collector: str, tmp_path: Path) -> None:
    environments = await _plant(bus, planted, collector, tmp_path)
    python = [sys.executable, "-m", "opsbus", "run"]
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    commands = {name: [*python, name] for name in ("edge", "monitoring", "audit", "cmdb")}
    commands["test"] = [sys.executable, str(program)]
    processes = {
        name: Process(name, tmp_path, command, environments[name] | _connection(bus, name))
        for name, command in commands.items()
    }
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(process.running()) for process in processes.values()))
        edge = processes["edge"]
        assert edge.url, edge.said.read_text()
        assert processes["test"].url, processes["test"].said.read_text()
        await _use(edge.url, planted, environments["keeper"]["API_KEY"])
        for name, process in processes.items():
            await _ask_faces(name, process.url, planted)
        operator = _connection(bus, "operator") | {"OPSBUS_EDGE_URL": edge.url, "OPSBUS_TOKEN": _token(planted)}
        operator |= {"OPSBUS_DATA": str(tmp_path / "nothing")}
        for more in ([], ["--json"]):
            planted.heard("doctor", await cli(planted, "doctor", *more, **operator))
    for name, process in processes.items():
        planted.heard(f"log of {name}", process.said.read_bytes())
    await _read_bus(bus, planted)
    logs = [f"log of {name}" for name in processes]
    for where in (*logs, "traces", "stream AUDIT", "stream EVENTS", "doctor", "/metrics of edge", "/metrics of test"):
        assert planted.emitted.get(where), f"nothing was heard from {where}: this test looks at nothing"
    assert b"rotating" in planted.emitted["log of test"]
    assert b"test_rotate" in planted.emitted["stream AUDIT"]
    assert b"sign_in_failed" in planted.emitted["stream AUDIT"] or b"directory" in planted.emitted["log of edge"]
    assert planted.found() == []
    print(f"\n{len(planted.secrets)} secrets, none in {sum(map(len, planted.emitted.values()))} bytes"
          f" from {len(planted.emitted)} places")  # fmt: skip


async def _plant(bus: Bus, planted: Planted, collector: str, folder: Path) -> dict[str, dict[str, str]]:
    """Environments of the processes, with a secret wherever one can be."""

    def file(name: str, content: bytes | str) -> str:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def pem(name: str, signer: Signer) -> str:
        content = signer.pem()
        planted.keep(name, content.decode().splitlines()[1])
        return file(name, content)

    for identity in ("edge", "monitoring", "audit", "cmdb", "test", "keeper", "operator"):
        planted.keep(f"seed of {identity}", bus.credentials(identity).read_text().strip())
    key = folder / "settings.key"
    await cli(planted, "encrypt", "--new-key", str(key))
    planted.keep("settings key", key.read_text().strip())
    vault = planted.new("encrypted setting")

    def encrypted() -> Any:
        return CliRunner().invoke(app, ["encrypt"], input=vault, env={"OPSBUS_SETTINGS_KEY_FILE": str(key)})

    shown = await asyncio.to_thread(encrypted)
    assert shown.stdout.startswith("enc:")
    nobody = free_port()
    common = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "OPSBUS_LOG_LEVEL": "debug",
        "OPSBUS_LOG_FORMAT": "json",
        "OPSBUS_SETTINGS_KEY_FILE": str(key),
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
    }
    jwt_secret = planted.new("JWT secret") + "0" * 16
    planted.keep("whole JWT secret", jwt_secret)
    edge = common | {
        "OPSBUS_EDGE_HTTP_PORT": "0",
        "OPSBUS_EDGE_IDENTITY_KEY_FILE": pem("identity.pem", bus.signer),
        "OPSBUS_EDGE_TOKEN_KEY_FILE": pem("token.pem", Signer.generate()),
        "OPSBUS_EDGE_SEAL_KEY_FILE": file("seal.key", planted.new("seal key") + "0" * 16),
        "OPSBUS_EDGE_JWT_SECRET_FILES": json.dumps([file("hs256", jwt_secret)]),
        "OPSBUS_EDGE_LDAP_URL": f"ldaps://127.0.0.1:{nobody}",
        "OPSBUS_EDGE_LDAP_BIND_DN": "cn=opsbus,dc=shop",
        "OPSBUS_EDGE_LDAP_BIND_PASSWORD": planted.new("LDAP bind password"),
        "OPSBUS_EDGE_LDAP_USER_BASE": "dc=shop",
        "OPSBUS_EDGE_LDAP_GROUP_ROLES": json.dumps({"cn=ops,dc=shop": ["operator"]}),
    }
    database = f"postgresql://store:{{}}@127.0.0.1:{nobody}/record"
    made = await cli(planted, "keys", "create", "--owner", "ci@shop", "--role", "admin", **_connection(bus, "keeper"))
    planted.keep("API key", made.strip())
    planted.keep("API key's secret", made.strip().rpartition("_")[2])
    return {
        "edge": edge,
        "monitoring": common
        | {
            "GRAFANA_URL": f"http://127.0.0.1:{nobody}",
            "GRAFANA_TOKEN": f"file:{file('grafana', planted.new('Grafana token'))}",
            "PROMETHEUS_URL": f"http://127.0.0.1:{nobody}",
            "OPSBUS_MONITORING_PROMETHEUS_TOKEN": shown.stdout.strip(),
        },
        "audit": common | {"OPSBUS_AUDIT_DATABASE_URL": database.format(planted.new("password of the record's store"))},
        "cmdb": common
        | {
            "OPSBUS_CMDB_DATABASE_URL": database.format(planted.new("password of the inventory")),
            "OPSBUS_CMDB_API_KEY": planted.new("key of the inventory"),
        },
        "test": common | {"OPSBUS_TEST_VAULT_TOKEN": shown.stdout.strip()},
        "keeper": {"API_KEY": made.strip()},
    }


def _connection(bus: Bus, identity: str) -> dict[str, str]:
    return {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials(identity)), "OPSBUS_HTTP_PORT": "0"}


def _token(planted: Planted, **claims: Any) -> str:
    now = int(time.time())
    body = {"iss": "opsbus", "aud": "opsbus", "sub": "ada@shop", "roles": ["admin"], "iat": now, "exp": now + 600}
    token = jwt.encode(body | claims, planted.secrets["whole JWT secret"], algorithm="HS256")
    planted.keep(f"signature of token {len(planted.secrets)}", token.rpartition(".")[2])
    return token


async def _use(url: str, planted: Planted, api_key: str) -> None:
    """Calls that work and calls that fail, with secrets in what is sent."""
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        good = {"authorization": f"Bearer {_token(planted)}"}

        async def post(path: str, body: Any, headers: dict[str, str] = good) -> httpx.Response:
            response = await http.post(path, json=body, headers=headers)
            planted.heard("answers of the edge", json.dumps(dict(response.headers)) + response.text)
            return response

        async with asyncio.timeout(START_S):
            while "test_rotate" not in (await http.get("/api/v1/tools", headers=good)).text:
                await asyncio.sleep(0.1)
        new = planted.new
        told = {"password": new("argument password"), "api_key": new("argument api_key")}
        told |= {"credentials": {"token": new("argument in a mapping")}}
        rotate = "/api/v1/tools/test_rotate/execute"
        done = await post(rotate, {"arguments": told})
        assert done.status_code == 200, done.text
        await post(rotate, {"arguments": {"password": {"a": new("argument of a wrong type")}}})
        await post(rotate, {"arguments": told | {"retries": "many"}})
        await post(rotate, {"arguments": told | {"secret_token": new("argument that is unknown")}})
        for tool in ("test_fail", "test_crash"):
            failed = await post(f"/api/v1/tools/{tool}/execute", {"arguments": {"token": new(f"argument of {tool}")}})
            assert failed.status_code != 200
        for tool in ("monitoring_list_dashboards", "monitoring_health_check", "monitoring_query_metrics"):
            await post(f"/api/v1/tools/{tool}/execute", {"arguments": {}})
        assert (await http.get("/api/v1/tools", headers={"x-api-key": api_key})).status_code == 200
        wrong_id = api_key[:-8] + "00000000"
        expired = _token(planted, exp=int(time.time()) - 600)
        for bad in (new("bearer token"), expired, expired[:-4] + "AAAA", planted.keep("wrong API key", wrong_id)):
            refused = await post(rotate, {"arguments": {}}, {"authorization": f"Bearer {bad}"})
            assert refused.status_code == 401
        await post(rotate, {"arguments": {}}, {"authorization": f"Basic {new('basic credentials')}"})
        await post(f"/api/v1/tools?token={new('token in a URL')}", {}, {})
        signed = await post("/auth/token", {"user": "ada", "password": new("directory password")}, {})
        assert signed.status_code == 503
        await post("/auth/token", {"user": "ada", "password": [new("directory password of a wrong type")]}, {})
        mcp = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": new("secret as a method's name")}}
        del planted.secrets["secret as a method's name"]  # a name of a tool is no secret to the edge
        await post("/mcp", mcp, good | {"accept": "application/json, text/event-stream"})


async def _ask_faces(name: str, url: str, planted: Planted) -> None:
    if not url:
        return
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
        for path in ("/metrics", "/health", "/ready", "/live"):
            planted.heard(f"{path} of {name}", (await http.get(path)).content)


async def _read_bus(bus: Bus, planted: Planted) -> None:
    """All that is kept: streams, buckets."""
    js = await bus.jetstream()
    for info in await js.streams_info():
        stream = str(info.config.name)
        for sequence in range(max(1, info.state.first_seq), info.state.last_seq + 1):
            try:
                message = await js.get_msg(stream, seq=sequence)
            except nats.js.errors.NotFoundError:
                continue
            planted.heard(f"stream {stream}", (message.data or b"") + json.dumps(dict(message.headers or {})).encode())


def test_the_search_finds_what_is_there() -> None:
    """This file's own instrument."""
    planted = Planted()
    where: Callable[[str], str] = planted.new
    planted.heard("a log", f"x {where('one')} y")
    where("two")
    assert planted.found() == ["one in a log"]
