"""The same samples in our database and in a real Prometheus, on a free port; where it is not installed, a skip."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from opsbus.testing.ports import free_port
from opsbus_sandbox.promql.database import Database

Point = tuple[float, float]
SeriesData = tuple[str, dict[str, str], list[Point]]
START_S = 60.0
BASE = 1_700_000_000.0
BOUNDS = ("0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "+Inf")


def openmetrics(series: Iterable[SeriesData]) -> str:
    """The series in OpenMetrics text, untyped, so that names stay as they are."""
    lines = []
    for name, labels, points in series:
        inside = ",".join(f"{key}={json.dumps(value)}" for key, value in labels.items())
        lines += [f"{name}{{{inside}}} {value!r} {when!r}" for when, value in points]
    return "\n".join([*lines, "# EOF", ""])


class RealPrometheus:
    """Where it listens, and its answers."""

    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **params: str) -> tuple[int, Any]:
        """Status and JSON of an API path."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(params)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)


@contextmanager
def real_prometheus(folder: Path, series: Iterable[SeriesData]) -> Iterator[RealPrometheus]:
    """Serve the series; skips the test where Prometheus is not installed."""
    server, tool = shutil.which("prometheus"), shutil.which("promtool")
    if not server or not tool:
        pytest.skip("prometheus and promtool are not installed (Debian package: prometheus)")
    text, data, config = folder / "samples.om", folder / "data", folder / "prometheus.yml"
    text.write_text(openmetrics(series))
    config.write_text("global: {}\n")
    made = subprocess.run(
        [tool, "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    port = free_port()
    flags = [f"--storage.tsdb.path={data}", "--storage.tsdb.retention.time=10y", f"--config.file={config}"]
    log = folder / "prometheus.log"
    with log.open("w") as out:
        process = subprocess.Popen([server, *flags, f"--web.listen-address=127.0.0.1:{port}"], stdout=out, stderr=out)
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        yield RealPrometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(timeout=START_S)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2):
                return
        except OSError:
            time.sleep(0.1)  # no event tells that a foreign process is ready
    raise AssertionError(f"prometheus was not ready within {START_S} s: {log.read_text()[-2000:]}")


def samples() -> list[SeriesData]:
    """Ninety minutes of series, off the round second: counters with resets, gauges, gaps, odd values, histograms."""
    dice = random.Random(7)
    moments = [BASE - 1800 + index * 15 + 0.123 for index in range(int(5400 / 15) + 1)]
    out: list[SeriesData] = []
    for service, speed in (("checkout", 5.0), ("catalog", 40.0), ("frontend", 90.5)):
        for method, code, share in (("GET", "200", 0.9), ("POST", "200", 0.05), ("GET", "500", 0.05)):
            value, points = 5000.0, []
            for when in moments:
                value = 1500.0 + dice.random() if dice.random() < 0.004 else value + dice.random() * speed * share * 15
                points.append((when, value))
            out.append(("http_requests_total", {"service": service, "method": method, "code": code}, points))
        counts = [700.0 * (index + 1) for index in range(len(BOUNDS))]
        buckets: list[list[tuple[float, float]]] = [[] for _ in BOUNDS]
        for when in moments:
            added = sorted(dice.random() * speed for _ in BOUNDS)
            for index, more in enumerate(added):
                counts[index] += more
                buckets[index].append((when, counts[index]))
        for bound, points in zip(BOUNDS, buckets, strict=True):
            out.append(("latency_seconds_bucket", {"service": service, "le": bound}, points))
        if service != "frontend":
            out.append(("service_info", {"service": service, "team": f"team-{service}"}, [(w, 1.0) for w in moments]))
    for pod in ("a-1", "a-2", "b-1"):
        labels, phase = {"namespace": "shop", "pod": pod}, dice.random() * 6
        wave = [(w, 5e7 + 3e7 * math.sin(w / 400 + phase) + dice.random() * 1e6) for w in moments]
        out.append(("mem_bytes", labels, wave))
        out.append(("mem_limit", labels, [(w, 1e8) for w in moments]))
        out.append(("mem_half", labels, [(w, 5e7) for w in moments]))
        out.append(("steps", labels, [(w, float(int(dice.random() * 3))) for w in moments]))
    for index, value in enumerate((math.nan, math.inf, -math.inf, 0.0, -2.5, 2.5, 0.5, 1e300)):
        out.append(("odd_values", {"n": str(index)}, [(w, value) for w in moments]))
    out.append(("odd_values", {"n": "mixed"}, [(w, math.nan if i % 3 else float(i)) for i, w in enumerate(moments)]))
    out.append(("gone_gauge", {"pod": "old"}, [(w, 4.0) for w in moments if w < BASE + 1200]))
    out.append(("gappy_total", {}, [(w, 1000 + w - BASE) for w in moments if w % 600 > 250]))
    return out


@pytest.fixture(scope="module")
def data() -> list[SeriesData]:
    return samples()


@pytest.fixture(scope="module")
def database(data: list[SeriesData]) -> Database:
    database = Database()
    for name, labels, points in data:
        for when, value in points:
            database.append({"__name__": name, **labels}, when, value)
    return database


@pytest.fixture(scope="module")
def real(data: list[SeriesData], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPrometheus]:
    with real_prometheus(tmp_path_factory.mktemp("prometheus"), data) as server:
        yield server
