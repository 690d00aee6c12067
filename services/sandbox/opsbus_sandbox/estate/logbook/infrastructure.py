"""The voices of what is not the shop's own: nginx, redis, postgres, the monitoring and DNS."""

from __future__ import annotations

from opsbus_sandbox.estate.logbook.voice import Line, Moment, Voice, pick

_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0",
)
_PAGES = ("/", "/cart", "/category/garden", "/product/1842", "/product/977", "/search?q=lamp")


def _access(moment: Moment, path: str, status: int, size: int, took: float, method: str = "GET") -> str:
    address = f"10.244.{moment.dice.randint(2, 4)}.{moment.dice.randint(2, 90)}"
    stamp = f"{moment.at:%d/%b/%Y:%H:%M:%S} +0000"
    agent = moment.dice.choice(_AGENTS)
    return f'{address} - - [{stamp}] "{method} {path} HTTP/1.1" {status} {size} "-" "{agent}" {took:.3f}'


def _nginx(moment: Moment) -> str:
    def page(m: Moment) -> str:
        return _access(m, m.dice.choice(_PAGES), 200, m.dice.randint(900, 42_000), m.dice.uniform(0.01, 0.2))

    def bad(m: Moment) -> str:
        return _access(m, "/api/checkout", 502, 157, m.dice.uniform(2.5, 2.9), "POST")

    def probe(m: Moment) -> str:
        return (
            f'10.0.0.12 - - [{m.at:%d/%b/%Y:%H:%M:%S} +0000] "GET /readyz HTTP/1.1" 200 2 "-" "kube-probe/1.34" 0.001'
        )

    in_trouble = moment.run.pod["metadata"].get("namespace") in ("shop", "platform")
    return pick(moment, [(12, page), (2 if in_trouble else 0, bad), (3, probe)])


def _nginx_begin(moment: Moment) -> list[str]:
    stamp = f"{moment.at:%Y/%m/%d %H:%M:%S}"
    return [f"{stamp} [notice] 1#1: nginx/1.27.1", f"{stamp} [notice] 1#1: start worker processes"]


def _redis(moment: Moment) -> str:
    stamp = f"1:M {moment.at:%d %b %Y %H:%M:%S}.{moment.at.microsecond // 1000:03d}"

    def saving(m: Moment) -> str:
        return f"{stamp} * {m.dice.randint(100, 900)} changes in 300 seconds. Saving..."

    return pick(moment, [(1, saving), (1, lambda _: f"{stamp} * DB saved on disk")])


def _postgres(moment: Moment) -> str:
    stamp = f"{moment.at:%Y-%m-%d %H:%M:%S}.{moment.at.microsecond // 1000:03d} UTC [27]"

    def complete(m: Moment) -> str:
        written = m.dice.randint(8, 220)
        return f"{stamp} LOG:  checkpoint complete: wrote {written} buffers ({written / 163.84:.1f}%)"

    return pick(moment, [(1, lambda _: f"{stamp} LOG:  checkpoint starting: time"), (1, complete)])


def _postgres_begin(moment: Moment) -> list[str]:
    stamp = f"{moment.at:%Y-%m-%d %H:%M:%S.000} UTC [1]"
    return [
        f"{stamp} LOG:  starting PostgreSQL 16.3 (Debian 16.3-1.pgdg120+1) on x86_64-pc-linux-gnu",
        f"{stamp} LOG:  database system is ready to accept connections",
    ]


def logfmt(component: str, messages: tuple[str, ...]) -> Line:
    """Lines of key=value, as Prometheus and its kin write them."""

    def line(moment: Moment) -> str:
        stamp = f"{moment.at:%Y-%m-%dT%H:%M:%S}.{moment.at.microsecond // 1000:03d}Z"
        place = f"{component}.go:{moment.dice.randint(80, 900)}"
        return f'ts={stamp} caller={place} level=info msg="{moment.dice.choice(messages)}"'

    return line


def _dns(moment: Moment) -> str:
    name = moment.dice.choice(("payments-api.payments.svc", "redis.shop.svc", "catalog.shop.svc"))
    took = moment.dice.uniform(0.0001, 0.004)
    client = f"10.244.2.{moment.dice.randint(2, 90)}:41022"
    return f'[INFO] {client} - 7 "A IN {name}.cluster.local. udp 52" NOERROR {took:.6f}s'


VOICES: dict[str, Voice] = {
    "frontend": Voice(_nginx, (3, 8), _nginx_begin),
    "controller": Voice(_nginx, (4, 9), _nginx_begin),
    "nginx": Voice(_nginx, (1, 3), _nginx_begin),
    "redis": Voice(_redis, (0, 1)),
    "postgres": Voice(_postgres, (0, 1), _postgres_begin),
    "prometheus": Voice(logfmt("compact", ("write block", "Head GC completed", "Creating checkpoint")), (0, 1)),
    "alertmanager": Voice(logfmt("nflog", ("Running maintenance", "Maintenance done")), (0, 1)),
    "grafana": Voice(logfmt("cleanup", ("Completed cleanup jobs", "Update check succeeded")), (0, 1)),
    "node-exporter": Voice(logfmt("node_exporter", ("Enabled collectors", "Listening on")), (0, 1)),
    "coredns": Voice(_dns, (0, 2)),
}
