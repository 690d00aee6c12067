"""Hashing the events of an export with as many processes as there are processors.

Each process reads its own pieces of the file and sends back hashes: no event passes between them. They are programs of
their own (``python -m opsbus_audit.proof.piece``), not the ones of multiprocessing: those import the caller's main
module again, which takes longer than hashing a hundred thousand events.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from opsbus_audit.proof import line, piece
from opsbus_audit.proof.bundle import BundleError
from opsbus_audit.proof.leaf import Event
from opsbus_audit.proof.match import Chunk
from opsbus_audit.proof.piece import PIECE_BYTES, Hashed

R = TypeVar("R")

SMALL_BYTES = 8 * 1024 * 1024
"""A file up to this size is not worth starting processes for."""
PROCESSES_MAX = 8
_BESIDE = 2
_END_S = 5.0


class Hashing:
    """The events of a file, hashed; and other work that is done beside.

    Args:
        path: ``events.ndjson``.
        processes: How many hash; 0: one for each processor.
        piece_bytes: How much of the file is hashed at a time.

    Raises:
        BundleError: the file cannot be read.
    """

    def __init__(self, path: Path, processes: int, piece_bytes: int = 0) -> None:
        self._path = path
        self._piece = piece_bytes or PIECE_BYTES
        try:
            self._size = path.stat().st_size
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from None
        count = processes or min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2, PROCESSES_MAX)
        self._count = 1 if self._size <= SMALL_BYTES and not processes else count
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Hashing":
        if self._count > 1:
            self._threads = ThreadPoolExecutor(_BESIDE, thread_name_prefix="verify")
            try:
                for start in range(self._count):
                    self._helpers.append(self._start(start))
            except OSError as error:
                self.__exit__()
                raise BundleError(f"no process that hashes can be started: {error.strerror}") from None
        return self

    def __exit__(self, *_: object) -> None:
        for helper in self._helpers:
            helper.kill()
        for helper in self._helpers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                helper.wait(_END_S)
            for pipe in (helper.stdout, helper.stderr):
                if pipe is not None:
                    pipe.close()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def beside(self, work: Callable[..., R], *arguments: Any) -> Callable[[], R]:
        """Begin some other work; what is given back waits for its result. With one process it waits till then."""
        if self._threads is None:
            return partial(work, *arguments)
        return self._threads.submit(work, *arguments).result

    def chunks(self) -> Iterator[Chunk]:
        """The events in order, hashed.

        Raises:
            BundleError: the file cannot be read, or a process that hashed ended before its time.
        """
        for number, (at, length) in enumerate(piece.places(self._size, self._piece)):
            helper = self._helpers[number % self._count] if self._helpers else None
            hashed = self._hashed(at, length) if helper is None else _received(helper)
            yield Chunk(hashed.sequences, hashed.hashes, partial(self._events, at, length))

    def _start(self, start: int) -> "subprocess.Popen[bytes]":
        place = [str(self._path.absolute()), *map(str, (self._size, self._piece, start, self._count))]
        return subprocess.Popen(  # noqa: S603
            # -P: what lies in the current folder is not imported; the caller's own path is.
            [sys.executable, "-P", "-m", "opsbus_audit.proof.piece", *place],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def _hashed(self, at: int, length: int) -> Hashed:
        try:
            return piece.hash_piece(self._path, at, length)
        except OSError as error:
            raise BundleError(f"{self._path} cannot be read: {error.strerror}") from None

    def _events(self, at: int, length: int) -> list[Event | None]:
        return line.parse_lines(piece.read(self._path, at, length))


def _received(helper: "subprocess.Popen[bytes]") -> Hashed:
    hashed = piece.receive(cast(BinaryIO, helper.stdout))
    if hashed is None:
        code, said = helper.wait(), cast(BinaryIO, helper.stderr).read(4_096).decode(errors="replace").strip()
        why = said.splitlines()[-1] if said else "is there memory enough?"
        raise BundleError(f"a process that hashed was ended ({code}): {why}")
    return hashed
