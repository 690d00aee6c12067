"""The services installed here, asked of a process of their own, so that a broken package cannot hurt the runner.

To import every service takes seconds; the answer is kept until a file of one of the packages changes.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from opsbus.commands.discover import SERVICES, Entry, find, names
from opsbus.up.folder import read_json, write_json
from opsbus.up.process import die_with_parent

ASK_TIMEOUT_S = 60.0
_FILES_MAX = 5_000


class ServicesUnknownError(Exception):
    """The installed services could not be listed; in one line why."""


@dataclass(frozen=True)
class Installed:
    """A service as its package declares it."""

    name: str
    token: str
    kind: str
    order: int
    needs: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """What is installed."""

    services: list[Installed]
    broken: list[str]
    """A line for each entry point that cannot be loaded."""


async def installed(kept: Path, only: Sequence[str] = ()) -> Listing:
    """The installed services in starting order.

    Args:
        kept: File where the answer is kept.
        only: These names alone; asked anew each time.

    Raises:
        ServicesUnknownError: the process that lists them failed.
    """
    if only:
        return _listing(await _ask(only))
    state = await asyncio.to_thread(_fingerprint)
    known = read_json(kept)
    if known is not None and known.get("fingerprint") == state:
        return _listing(known)
    answer = await _ask(())
    if not answer["broken"]:  # a broken one may be repaired by what is no file of its package
        write_json(kept, {"fingerprint": state, **answer})
    return _listing(answer)


def _listing(answer: dict[str, Any]) -> Listing:
    found = [
        Installed(entry["name"], entry["token"], entry["kind"], entry["order"], tuple(entry["needs"]))
        for entry in answer["services"]
    ]
    return Listing(found, list(answer["broken"]))


async def _ask(only: Sequence[str]) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "opsbus",
        "services",
        "--json",
        *only,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with_parent(os.getpid()),
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), ASK_TIMEOUT_S)
    except TimeoutError:
        raise ServicesUnknownError(f"the installed services were not listed within {ASK_TIMEOUT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        answer = json.loads(out)
    except ValueError:
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no word why"]
        raise ServicesUnknownError(f"the installed services cannot be listed: {last[0][:300]}") from None
    return dict(answer)


def _fingerprint() -> str:
    """Changes when an entry point, a package's version or one of its files does."""
    digest = hashlib.sha256(sys.version.encode())
    for name in names(SERVICES):
        entry = find(SERVICES, name)
        if entry is None:
            continue
        version = entry.point.dist.version if entry.point.dist is not None else ""
        digest.update(repr((name, entry.point.value, entry.package, version)).encode())
        for path in _files(entry):
            status = path.stat()
            digest.update(repr((str(path), status.st_mtime_ns, status.st_size)).encode())
    return digest.hexdigest()


def _files(entry: Entry) -> Iterator[Path]:
    try:
        spec = find_spec(entry.point.module.partition(".")[0])
    except (ImportError, ValueError):
        return
    for place in (spec.submodule_search_locations or []) if spec is not None else []:
        yield from sorted(Path(place).rglob("*.py"))[:_FILES_MAX]
