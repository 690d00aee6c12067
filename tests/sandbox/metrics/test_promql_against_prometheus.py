"""The same samples in our evaluator and in a real Prometheus: the same answers."""

import asyncio
import math
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from opsbus.testing.ports import free_port
from opsbus_sandbox.promql.aggregate import format_value
from opsbus_sandbox.promql.database import Database
from opsbus_sandbox.promql.evaluate import as_vector, query, query_range

START, STEP_S, COUNT = 1_790_000_000, 15, 241
END = START + (COUNT - 1) * STEP_S
MOMENTS = (END - 3.7, START + 1707.5)
# Off the samples' grid: at a window's left edge Prometheus 2 includes a sample that Prometheus 3, and we, leave out.
BOUNDS = (0.1, 0.5, 1.0, math.inf)

EXPRESSIONS = [
    "requests_total",
    'requests_total{code="500"}',
    'requests_total{code!="500",service=~"a|c"}',
    'requests_total{service!~"a.*"}',
    "requests_total offset 7m",
    "sum(requests_total)",
    "sum by (service) (rate(requests_total[5m]))",
    "sum without (code) (rate(requests_total[5m]))",
    "rate(requests_total[1m])",
    "increase(requests_total[10m])",
    "irate(requests_total[5m])",
    "delta(temperature[10m])",
    "idelta(temperature[10m])",
    "deriv(temperature[10m])",
    "predict_linear(temperature[10m], 3600)",
    "resets(requests_total[30m])",
    "changes(temperature[30m])",
    "avg_over_time(temperature[10m])",
    "min_over_time(temperature[10m])",
    "max_over_time(temperature[10m])",
    "sum_over_time(temperature[10m])",
    "count_over_time(temperature[10m])",
    "last_over_time(temperature[10m])",
    "stddev_over_time(temperature[10m])",
    "quantile_over_time(0.9, temperature[10m])",
    "avg by (room) (temperature)",
    "max(temperature)",
    "min by (room) (temperature)",
    "count(requests_total) by (code)",
    "stddev(temperature)",
    "quantile(0.25, temperature)",
    "topk(2, requests_total)",
    "bottomk(1, temperature)",
    "group by (code) (requests_total)",
    'count_values("v", floor(temperature / 10))',
    "histogram_quantile(0.9, sum by (le) (rate(latency_bucket[5m])))",
    "histogram_quantile(0.5, rate(latency_bucket[5m]))",
    'rate(requests_total{code="500"}[5m]) / on(service) sum by (service) (rate(requests_total[5m]))',
    "requests_total / on(service) group_left sum by (service) (requests_total)",
    'requests_total / ignoring(code) group_left(room) label_replace(temperature, "service", "$1", "room", "(.).*")',
    "temperature > 21",
    "temperature > bool 21",
    "21 < temperature",
    'requests_total and on(service) requests_total{code="500"}',
    'requests_total unless on(service) requests_total{code="500"}',
    "temperature or requests_total",
    "-temperature + 3 * 2 ^ 3 % 5",
    "abs(temperature - 22)",
    "ceil(temperature)",
    "round(temperature, 0.5)",
    "clamp(temperature, 20, 22)",
    "scalar(max(temperature)) + vector(1)",
    "sort_desc(temperature)",
    'absent(nosuch{a="b"})',
    "absent(temperature)",
    'label_join(temperature, "both", "-", "room", "floor")',
    "max_over_time(rate(requests_total[1m])[10m:1m])",
    "time() - timestamp(temperature)",
    "hour(vector(1790000000))",
    "sum(rate(requests_total[5m])) > 1e9",
    "temperature @ 1790001000",
]


def samples() -> list[tuple[dict[str, str], list[float]]]:
    series: list[tuple[dict[str, str], list[float]]] = []
    for n, service in enumerate("abc"):
        for m, code in enumerate(("200", "500")):
            if service == "c" and code == "500":
                continue
            values, total = [], 10.0 * n
            for i in range(COUNT):
                total = 0.0 if i in (100 + 10 * n,) else total + 3 + n * 2 + m + (i * (n + 2)) % 7
                values.append(total)
            series.append(({"__name__": "requests_total", "service": service, "code": code}, values))
    for n, room in enumerate(("attic", "basement")):
        wave = [20 + 3 * math.sin(i / (9 + n)) + n for i in range(COUNT)]
        series.append(({"__name__": "temperature", "room": room, "floor": str(n)}, [round(v, 6) for v in wave]))
    for n, bound in enumerate(BOUNDS):
        values = [float((n + 1) * i * 2 + min(n, 2)) for i in range(COUNT)]
        series.append(({"__name__": "latency_bucket", "le": format_value(bound)}, values))
    return series


def selector(labels: dict[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in labels.items() if key != "__name__")
    return f"{labels['__name__']}{{{inside}}}"


@pytest.fixture(scope="module")
def database() -> Database:
    found = Database()
    for labels, values in samples():
        for i, value in enumerate(values):
            found.append(labels, START + i * STEP_S, value)
    return found


@pytest.fixture
async def prometheus(tmp_path: Path) -> AsyncIterator[str]:
    if not (shutil.which("prometheus") and shutil.which("promtool")):
        pytest.skip("no prometheus and promtool on this machine (Debian package prometheus)")
    text = "".join(
        f"{selector(labels)} {format_value(value)} {START + i * STEP_S}\n"
        for labels, values in samples()
        for i, value in enumerate(values)
    )
    (tmp_path / "samples.om").write_text(text + "# EOF\n")
    make = await asyncio.create_subprocess_exec(
        "promtool", "tsdb", "create-blocks-from", "openmetrics", str(tmp_path / "samples.om"), str(tmp_path / "data"),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said = (await make.communicate())[0]
    assert make.returncode == 0, said.decode()
    (tmp_path / "prometheus.yml").write_text("global: {scrape_interval: 15s}\n")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "prometheus", f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=10y",
        "--enable-feature=promql-at-modifier", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    base = f"http://127.0.0.1:{port}"
    try:
        await _ready(base)
        yield base
    finally:
        process.terminate()
        await process.wait()


async def _ready(base: str) -> None:
    async with asyncio.timeout(60), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{base}/-/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)


def table(result: list[dict]) -> dict[tuple, float]:  # type: ignore[type-arg]
    return {tuple(sorted(item["metric"].items())): float(item["value"][1]) for item in result}


async def test_instant_queries_agree(prometheus: str, database: Database) -> None:
    differences = []
    async with aiohttp.ClientSession() as session:
        for expr in EXPRESSIONS:
            for when in MOMENTS:
                params = {"query": expr, "time": str(when)}
                async with session.get(f"{prometheus}/api/v1/query", params=params) as answer:
                    body = await answer.json()
                assert body["status"] == "success", (expr, body)
                theirs = table(body["data"]["result"])
                ours = {tuple(sorted(s.labels.items())): s.value for s in as_vector(query(database, expr, when))}
                if ours.keys() != theirs.keys() or any(
                    not math.isclose(ours[key], theirs[key], rel_tol=1e-9, abs_tol=1e-9)
                    and not (math.isnan(ours[key]) and math.isnan(theirs[key]))
                    for key in ours
                ):
                    differences.append((expr, when, ours, theirs))
    print(f"{len(EXPRESSIONS)} expressions at two moments against a real Prometheus, {len(differences)} differ")
    assert not differences, differences[:3]


async def test_range_queries_agree(prometheus: str, database: Database) -> None:
    async with aiohttp.ClientSession() as session:
        for expr in ("rate(requests_total[5m])", "avg_over_time(temperature[7m])", "sum(requests_total) by (code)"):
            start, end = START + 600.5, START + 3000.5
            params = {"query": expr, "start": str(start), "end": str(end), "step": "37"}
            async with session.get(f"{prometheus}/api/v1/query_range", params=params) as answer:
                body = await answer.json()
            theirs = {tuple(sorted(i["metric"].items())): i["values"] for i in body["data"]["result"]}
            ours = {tuple(sorted(labels.items())): p for labels, p in query_range(database, expr, start, end, 37)}
            assert ours.keys() == theirs.keys()
            for key, points in ours.items():
                assert [t for t, _ in points] == [t for t, _ in theirs[key]]
                assert [v for _, v in points] == pytest.approx([float(v) for _, v in theirs[key]])
