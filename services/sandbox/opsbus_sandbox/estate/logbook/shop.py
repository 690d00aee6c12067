"""The voices of the shop's own services: JSON lines, with the noise, the slips and the secrets of real ones."""

from __future__ import annotations

from collections.abc import Callable

from opsbus_sandbox.estate.images import split_image
from opsbus_sandbox.estate.logbook.voice import Line, Moment, Voice, bearer, hexadecimal, pick, structured

Lines = Callable[[Moment], list[str]]


def request(logger: str, routes: list[tuple[str, str]], slow_ms: int = 90) -> Line:
    """A line per served request."""

    def line(moment: Moment) -> str:
        method, path = moment.dice.choice(routes)
        took = int(moment.dice.lognormvariate(3.4, 0.6)) + moment.dice.choice((0, 0, 0, slow_ms))
        return structured(
            moment, "info", logger, "request completed", method=method, path=path, status=200, duration_ms=took,
            trace_id=hexadecimal(moment.dice, 32),
        )  # fmt: skip

    return line


def begin(name: str, *connections: str) -> Lines:
    """The lines every service opens with."""

    def lines(moment: Moment) -> list[str]:
        version = split_image(moment.run.image)[1]
        return [
            structured(moment, "info", "main", f"starting {name} {version}", runtime="go1.23.2", pid=1),
            structured(moment, "info", "config", "configuration loaded", source=f"{name}-config", keys=3),
            *(structured(moment, "info", "main", connection) for connection in connections),
            structured(moment, "info", "http", "listening on :8080"),
        ]

    return lines


def _cart_line(moment: Moment) -> str:
    def saved(m: Moment) -> str:
        size = m.dice.randint(2_000, 48_000)
        return structured(m, "info", "cart.store", "cart saved", cart=f"crt_{hexadecimal(m.dice, 8)}", bytes=size)

    routes = [("GET", "/api/cart"), ("POST", "/api/cart/items"), ("DELETE", "/api/cart/items")]
    return pick(moment, [(8, request("cart.http", routes)), (4, saved)])


def _catalog_line(moment: Moment) -> str:
    def cache(m: Moment) -> str:
        ratio = round(m.dice.uniform(0.91, 0.97), 3)
        return structured(m, "info", "catalog.cache", "cache statistics", hit_ratio=ratio, entries=18_240)

    routes = [("GET", "/api/products"), ("GET", "/api/products/search"), ("GET", "/api/categories")]
    return pick(moment, [(9, request("catalog.http", routes)), (1, cache)])


def _recommendations_line(moment: Moment) -> str:
    def inference(m: Moment) -> str:
        took = m.dice.randint(18, 140)
        return structured(m, "info", "model", "inference", model="als-2026-10", items=12, duration_ms=took)

    def queue(m: Moment) -> str:
        depth = m.dice.randint(40, 160)
        return structured(m, "warn", "model", "request queue is long: 2 of 3 replicas available", depth=depth)

    routes = [("GET", "/api/recommendations")]
    return pick(moment, [(6, request("recs.http", routes, 240)), (4, inference), (1, queue)])


def _payments_line(moment: Moment) -> str:
    def charge(m: Moment) -> str:
        return structured(
            m, "info", "payments.charge", "charge authorised", amount_cents=m.dice.randint(900, 28_000),
            currency="EUR", provider="acme-pay", duration_ms=m.dice.randint(140, 900),
        )  # fmt: skip

    def gone(m: Moment) -> str:
        return structured(
            m, "warn", "payments.http", "client closed request before the response", status=499,
            path="/v1/charges", client="checkout", duration_ms=2500 + m.dice.randint(0, 400),
        )  # fmt: skip

    def outgoing(m: Moment) -> str:
        return structured(
            m, "debug", "payments.provider", "POST https://api.acme-pay.example/v3/charges",
            headers={"Authorization": f"Bearer {bearer(m.dice)}", "Idempotency-Key": hexadecimal(m.dice, 16)},
        )  # fmt: skip

    routes = [("POST", "/v1/charges"), ("GET", "/v1/charges/status")]
    return pick(moment, [(6, request("payments.http", routes, 400)), (4, charge), (1, gone), (1, outgoing)])


def _ledger_line(moment: Moment) -> str:
    def posted(m: Moment) -> str:
        entry = f"led_{hexadecimal(m.dice, 10)}"
        return structured(m, "info", "ledger", "entry posted", entry=entry, duration_ms=m.dice.randint(4, 40))

    return pick(moment, [(4, request("ledger.http", [("POST", "/v1/entries")])), (5, posted)])


def _cart_begin(moment: Moment) -> list[str]:
    # A connection string with its password, as programs too often print them.
    connection = "connected to redis://cart:hV7pQ2xLw9@redis:6379/0"
    return begin("cart", connection)(moment)


VOICES: dict[str, Voice] = {
    "cart": Voice(_cart_line, (2, 5), _cart_begin),
    "catalog": Voice(_catalog_line, (2, 5), begin("catalog", "connected to catalog-db")),
    "recommendations": Voice(_recommendations_line, (1, 3), begin("recommendations", "model als-2026-10 loaded")),
    "payments-api": Voice(_payments_line, (2, 4), begin("payments-api", "provider acme-pay reachable")),
    "ledger": Voice(_ledger_line, (1, 3), begin("ledger", "connected to ledger-postgres:5432 as ledger")),
}
