"""The data folder of ``opsbus up``: where its files are, who may read them, and that one runner at a time has it."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT = Path(".opsbus")


class AlreadyRunningError(Exception):
    """Another ``opsbus up`` has the folder; ``pid`` is its process, 0 when it could not be read."""

    def __init__(self, pid: int, folder: Path) -> None:
        super().__init__(f"opsbus up is already running on {folder} (pid {pid})")
        self.pid = pid


@dataclass(frozen=True)
class Folder:
    """Paths under the data folder. All of it is for its owner alone: folders 0700, files 0600."""

    root: Path

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def tokens(self) -> Path:
        return self.root / "tokens"

    @property
    def logs(self) -> Path:
        return self.root / "log"

    @property
    def ready(self) -> Path:
        return self.root / "ready"

    @property
    def nats(self) -> Path:
        return self.root / "nats"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def run_file(self) -> Path:
        return self.root / "run.json"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def ready_file(self, name: str) -> Path:
        return self.ready / f"{name}.json"

    def create(self) -> "Folder":
        """Make what is missing, and close what others can read.

        Raises:
            OSError: it cannot be made or does not belong to the user.
        """
        for path in (self.root, self.keys, self.tokens, self.logs, self.ready, self.nats, self.state):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
        return self


@contextlib.contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Hold the folder. The lock is the kernel's: it goes with the process, however that ends.

    Raises:
        AlreadyRunningError: another process holds it.
    """
    path = folder.root / "lock"
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            text = file.read(20).strip()
            raise AlreadyRunningError(int(text) if text.isdigit() else 0, folder.root) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone may read; a reader sees the old or the new text, never a part of it."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """``write_private`` of an object."""
    write_private(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None when there is none or it is not one (yet)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None
