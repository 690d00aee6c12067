"""A load generator that can offer more than is taken: ``python -m bench.stress.generator`` with a plan on stdin.

wrk sends a request when the one before it was answered, so it offers what the server takes. This one sends by the
clock ("open"): a late answer delays no request, and an answer's time counts from when its request was due. Answers are
told apart: served, refused (429, 503, or ``busy`` in a tool's result) and failed. One process, uvloop, no HTTP client:
requests are bytes made beforehand, of an answer only the status and the length are read. It says what it can do against
a server that does nothing (``sink.py``) and how late it sent, so that one sees whether it was the bottleneck.
"""

import asyncio
import json
import resource
import sys
import time
from array import array
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from bench.stress.process import cpu_s

TICK_S = 0.002
DRAIN_S = 30.0
SERVED, REFUSED, FAILED = "served", "refused", "failed"


@dataclass(frozen=True)
class Plan:
    """What is sent."""

    url: str
    headers: dict[str, str]
    body: str
    connections: int
    seconds: float
    per_s: float = 0.0
    """By the clock; 0: each connection sends when it was answered (closed)."""
    warm_s: float = 0.0
    """Not counted."""
    tokens: list[str] = field(default_factory=list)
    """Bearer tokens by turns, a connection each; empty: what ``headers`` have."""
    pid: int = 0
    """Whose CPU time is looked at while what is sent counts; 0: nobody's."""


class Load:
    """One run of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        url = urlsplit(plan.url)
        self._host, self._port = str(url.hostname), int(url.port or 80)
        body = plan.body.encode()
        lines = [f"POST {url.path} HTTP/1.1", f"Host: {url.netloc}"]

        def whole(more: dict[str, str]) -> bytes:
            said = [f"{name}: {value}" for name, value in (plan.headers | more).items()]
            return "\r\n".join([*lines, *said, f"Content-Length: {len(body)}", "", ""]).encode() + body

        self.requests = [whole({"Authorization": f"Bearer {token}"}) for token in plan.tokens] or [whole({})]
        self.idle: deque[Connection] = deque()
        self.open = 0
        self.made = 0
        self.sending = True
        self.lost = 0
        """Connections that ended with a request under way."""
        self.times: dict[str, array[float]] = {kind: array("d") for kind in (SERVED, REFUSED, FAILED)}
        self.all = dict.fromkeys((SERVED, REFUSED, FAILED), 0)
        self.samples: dict[str, int] = {}
        self.late = array("d")
        self.most_waiting = 0
        self._due: deque[float] = deque()
        self._cpu_before = 0.0
        self._from = 0.0
        self._until = 0.0

    async def run(self) -> dict[str, object]:
        """Send, wait for what is owed, tell."""
        loop = asyncio.get_running_loop()
        for start in range(0, self._plan.connections, 100):
            count = min(100, self._plan.connections - start)
            await asyncio.gather(
                *(loop.create_connection(lambda: Connection(self), self._host, self._port) for _ in range(count))
            )
        used = resource.getrusage(resource.RUSAGE_SELF)
        began = time.perf_counter()
        loop.call_later(self._plan.warm_s, self._look)
        self._from, self._until = began + self._plan.warm_s, began + self._plan.warm_s + self._plan.seconds
        if self._plan.per_s:
            await self._by_the_clock(began)
        else:
            while self.idle:
                self.idle.popleft().send(time.perf_counter())
            await asyncio.sleep(self._until - time.perf_counter())
        self.sending = False
        of_pid = self._cpu_s() - self._cpu_before
        ended = time.perf_counter()
        now = resource.getrusage(resource.RUSAGE_SELF)
        while len(self.idle) < self.open and time.perf_counter() - ended < DRAIN_S:
            await asyncio.sleep(0.01)
        drained_s = time.perf_counter() - ended
        return {
            "seconds": self._plan.seconds,
            "kinds": {kind: _told(times, self._plan.seconds) for kind, times in self.times.items()},
            "all": self.all,
            "answers": self.samples,
            "lost": self.lost,
            "unanswered": self.open - len(self.idle),
            "drained_s": drained_s,
            "cpu_share": (now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime) / (ended - began),
            "pid_cpu_s": of_pid,
            "late_p99_ms": _percentile(sorted(self.late), 0.99) * 1000,
            "not_sent": len(self._due),
            "waited_for_a_connection_most": self.most_waiting,
        }

    def _look(self) -> None:
        self._cpu_before = self._cpu_s()

    def _cpu_s(self) -> float:
        return cpu_s(self._plan.pid) if self._plan.pid else 0.0

    async def _by_the_clock(self, began: float) -> None:
        sent, per_s = 0, self._plan.per_s
        while (now := time.perf_counter()) < self._until:
            due = int((now - began) * per_s)
            for number in range(sent, due):
                self._due.append(began + (number + 1) / per_s)
            sent = due
            while self._due and self.idle:
                when = self._due.popleft()
                self.late.append(now - when)
                self.idle.popleft().send(when)
            self.most_waiting = max(self.most_waiting, len(self._due))
            await asyncio.sleep(TICK_S)

    def answered(self, connection: "Connection", kind: str, status: str, due: float) -> None:
        """An answer came."""
        now = time.perf_counter()
        self.all[kind] += 1
        if self._from <= now < self._until:
            self.times[kind].append(now - due)
            self.samples[status] = self.samples.get(status, 0) + 1
        if not self.sending:
            self.idle.append(connection)
        elif not self._plan.per_s:
            connection.send(now)
        elif self._due:
            when = self._due.popleft()
            self.late.append(now - when)
            connection.send(when)
        else:
            self.idle.append(connection)


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._request = load.requests[load.made % len(load.requests)]
        load.made += 1
        self._buffer = b""
        self._due: float | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.open += 1
        self._load.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.open -= 1
        if self._due is not None:
            self._load.lost += 1
        elif self in self._load.idle:
            self._load.idle.remove(self)

    def send(self, due: float) -> None:
        """The request."""
        assert self._transport is not None
        self._due = due
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        length = data.find(b"content-length: ", 0, end) if end >= 0 else -1
        if length < 0 or len(data) < end + 4 + int(data[length + 16 : data.find(b"\r\n", length)]):
            self._buffer = data
            return
        self._buffer = b""
        status = data[9:12]
        busy = status == b"200" and b'"isError":true' in data
        kind = REFUSED if busy or status in (b"503", b"429") else SERVED if status == b"200" else FAILED
        due, self._due = self._due, None
        if due is not None:
            self._load.answered(self, kind, status.decode() + ("busy" if busy else ""), due)


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _told(times: "array[float]", seconds: float) -> dict[str, float]:
    ordered = sorted(times)
    found = {f"p{share * 100:g}_ms": _percentile(ordered, share) * 1000 for share in (0.5, 0.95, 0.99)}
    return {"per_s": len(ordered) / seconds, "number": len(ordered), **found, "most_ms": (ordered or [0])[-1] * 1000}


async def offer(plan: Plan, *, python: str = sys.executable) -> dict[str, Any]:
    """Run a plan in a process of its own; what it told."""
    child = await asyncio.create_subprocess_exec(
        python, "-m", "bench.stress.generator", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    try:
        said, _ = await child.communicate(json.dumps(asdict(plan)).encode())
    except BaseException:
        if child.returncode is None:
            child.kill()
        raise
    if child.returncode:
        raise RuntimeError(f"the load generator ended with {child.returncode}")
    found: dict[str, Any] = json.loads(said)
    return found


def main() -> None:
    """Plan in, figures out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if soft < hard else (soft, hard))
    plan = Plan(**json.loads(sys.stdin.read()))

    async def run() -> dict[str, object]:
        return await Load(plan).run()

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
