"""Load on an HTTP endpoint by ``wrk``, and what the processes behind it used meanwhile.

wrk is C with one thread here: its own CPU stands in the row as ``wrk``, and the door suite has a row of what it reaches
against a responder that does nothing, so that one sees whether it was the bottleneck.
"""

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.measure import Round

ID = 100_000_000
"""JSON-RPC id in the body of a session's request, from which the load counts."""
_TICKS = os.sysconf("SC_CLK_TCK")
_SESSIONS = """
local heads, tail, n = {HEADS}, TAIL, 100000000
request = function()
  n = n + 1
  return heads[n % #heads + 1] .. n .. tail
end
"""
"""For sessions: each request has an id of its own, and they take turns. Whole requests are put together from two
strings: wrk's own way to do so costs it half of its speed."""
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"us":%d,"errors":%d,"p50":%f,"p95":%f,"p99":%f}\\n', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000))
end
"""


class LoadError(Exception):
    """There is no load, or what it hit answered with errors; one line."""


async def post(
    url: str,
    headers: dict[str, str],
    body: bytes,
    *,
    connections: int,
    seconds: float,
    pids: dict[str, int],
    sessions: Sequence[str] = (),
    again: bool = True,
) -> Round:
    """POST the same request again and again.

    Args:
        url: Where; the address of a server on this machine.
        connections: Kept alive, each with one request under way.
        pids: Whose CPU and memory are looked at, by name.
        sessions: ``Mcp-Session-Id``s to take turns; then each request gets a JSON-RPC id of its own.
        again: Where nothing was answered, try once more and ten times as long: a machine that others use is slow.

    Raises:
        LoadError: wrk is missing, or an answer was no 2xx.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadError("wrk makes the load and is not installed: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "request.lua"
        script.write_text(_script(url, headers, body, sessions), encoding="utf-8")
        before = {name: cpu_s(pid) for name, pid in pids.items()}
        child = await asyncio.create_subprocess_exec(
            wrk, "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", str(script), url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, used = await _ended(child)
    after = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    facts = _facts(said.decode("utf-8", "replace"))
    if not facts["requests"] and again:
        return await post(
            url, headers, body,
            connections=connections, seconds=10 * seconds, pids=pids, sessions=sessions, again=False,
        )  # fmt: skip
    if not facts["requests"]:
        raise LoadError(f"{url} answered nothing in {seconds:.0f} s")
    if facts["errors"]:
        raise LoadError(f"{facts['errors']} of {facts['requests']} requests to {url} failed")
    cpu = after | {"wrk": used}
    return Round(
        per_s=facts["requests"] / facts["us"] * 1e6,
        p50_ms=facts["p50"],
        p95_ms=facts["p95"],
        p99_ms=facts["p99"],
        cpu_us={name: seconds_ * 1e6 / facts["requests"] for name, seconds_ in cpu.items()},
        peak_mb={name: peak_mb(pid) for name, pid in pids.items()},
    )


def _script(url: str, headers: dict[str, str], body: bytes, sessions: Sequence[str]) -> str:
    if not sessions:
        lines = ["wrk.method = 'POST'", f"wrk.body = {_lua(body.decode())}"]
        lines += [f"wrk.headers[{_lua(name)}] = {_lua(value)}" for name, value in headers.items()]
        return "\n".join(lines) + _DONE
    before, number, tail = body.decode().partition(f'"id": {ID}')
    if not number:
        raise ValueError("the body of a session's request needs the id to count from")
    heads = [_head(url, headers | {"Mcp-Session-Id": one}, len(body)) + before + '"id": ' for one in sessions]
    script = _SESSIONS.replace("HEADS", ", ".join(map(_lua, heads)))
    return script.replace("TAIL", _lua(tail)) + _DONE


def _head(url: str, headers: dict[str, str], length: int) -> str:
    parts = urlsplit(url)
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items())]) + "\r\n\r\n"


async def _ended(child: asyncio.subprocess.Process) -> tuple[bytes, float]:
    before = os.times()
    said, _ = await child.communicate()
    after = os.times()
    return said, after.children_user + after.children_system - before.children_user - before.children_system


def _facts(said: str) -> dict[str, Any]:
    for line in reversed(said.splitlines()):
        if line.startswith("{"):
            found: dict[str, Any] = json.loads(line)
            return found
    raise LoadError(f"wrk said nothing that can be read: {said.strip()[:200]}")


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def peak_mb(pid: int) -> float:
    """The most memory that a process has had (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _lua(text: str) -> str:
    if not text.isascii() or not text.replace("\r\n", "").isprintable():
        raise ValueError("only printable ASCII goes into a request of the load")
    return json.dumps(text)
