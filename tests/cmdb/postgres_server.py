"""A real PostgreSQL for tests: one server per test process on a free port, a fresh database per test."""

import asyncio
import glob
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from opsbus.testing.ports import free_port


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`; None: PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else [Path(path) for path in sorted(glob.glob("/usr/lib/postgresql/*/bin"))]
    complete = [folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()]
    return complete[-1] if complete else None


def _unprivileged() -> str | None:
    """Whom to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


class Postgres:
    """The server. ``database`` makes a database of its own for a test."""

    def __init__(self, port: int) -> None:
        self.port = port

    def url(self, name: str) -> str:
        """Where a database is."""
        return f"postgresql://tester@127.0.0.1:{self.port}/{name}"

    async def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()
        return self.url(name)


@contextmanager
def server() -> Iterator[Postgres]:
    """A running server; stopped, and its data removed, at the end."""
    folder = binaries()
    assert folder is not None
    user = _unprivileged()
    root = Path(tempfile.mkdtemp(prefix="opsbus-pg-"))
    process: subprocess.Popen[bytes] | None = None
    try:
        if user is not None:
            shutil.chown(root, user)
        data = root / "data"
        make = [str(folder / "initdb"), "-D", str(data), "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(make, check=True, user=user, stdout=subprocess.DEVNULL, cwd=root, env=_env(root))
        port = free_port()
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(root), "fsync": "off"}
        run = [str(folder / "postgres"), "-D", str(data), "-p", str(port)]
        run += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(run, user=user, stdout=log, stderr=log, cwd=root, env=_env(root))
        _wait(process, port, root / "log")
        yield Postgres(port)
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # PostgreSQL's fast way: it does not wait for clients to leave
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(root, ignore_errors=True)


def _env(root: Path) -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "HOME": str(root), "LC_ALL": "C.UTF-8"}


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"postgres ended at its start:\n{log.read_text(errors='replace')[-2000:]}")
        try:
            # In a thread: a test that asks for the server has a loop of its own running here.
            with ThreadPoolExecutor(1) as thread:
                thread.submit(asyncio.run, _try(port)).result()
        except (OSError, asyncpg.PostgresError):
            time.sleep(0.05)
        else:
            return
    raise TimeoutError("postgres did not answer within a minute")


async def _try(port: int) -> None:
    connection = await asyncpg.connect(f"postgresql://tester@127.0.0.1:{port}/postgres", timeout=5)
    await connection.close()
