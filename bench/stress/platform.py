"""The whole platform as ``opsbus up`` starts it, for as long as a block runs."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

UP_S = 240.0


@asynccontextmanager
async def platform(**settings: str) -> AsyncIterator[dict[str, Any]]:
    """Its facts: ``edge_url``, ``tokens`` by role, ``pids`` by name.

    Args:
        settings: Of the edge, without the prefix.

    Raises:
        RuntimeError: it did not start; its last words.
    """
    environment = {**os.environ} | {f"OPSBUS_EDGE_{name.upper()}": value for name, value in settings.items()}
    with tempfile.TemporaryDirectory() as folder:
        data, said = Path(folder) / "data", Path(folder) / "said"
        command = [sys.executable, "-m", "opsbus", "up", "--data", str(data), "--port", str(_port()), "--no-color"]
        with said.open("wb") as out:
            child = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder, env=environment)
        try:
            async with asyncio.timeout(UP_S):
                while "Ctrl-C stops" not in said.read_text(encoding="utf-8"):
                    if child.poll() is not None:
                        raise RuntimeError(f"opsbus up ended: {said.read_text(encoding='utf-8')[-2_000:]}")
                    await asyncio.sleep(0.2)
            yield json.loads((data / "run.json").read_text(encoding="utf-8"))
        finally:
            child.terminate()
            child.wait(60)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
