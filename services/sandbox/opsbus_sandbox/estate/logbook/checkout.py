"""The voice of checkout: healthy in v2.4.0, and in v2.4.1 the record of a cart that is kept whole until it kills."""

from __future__ import annotations

from opsbus_sandbox.estate.behaviour import LEAK_MIB, leaks
from opsbus_sandbox.estate.logbook.shop import begin, request
from opsbus_sandbox.estate.logbook.voice import Moment, Voice, bearer, hexadecimal, pick, structured

_ROUTES = [("POST", "/api/checkout"), ("GET", "/api/checkout/quote"), ("POST", "/api/checkout/confirm")]
_SERVE = request("checkout.http", _ROUTES, 160)
# The heap a fresh process has, and what a minute of inline snapshots adds to it.
_BASE_MIB, _GROWTH_MIB_PER_S = 58, 4.6
_UNIT = 2**20


def _container(moment: Moment) -> dict[str, object]:
    containers = moment.run.pod["spec"]["containers"]
    return next((dict(c) for c in containers if c["name"] == moment.run.container), {})


def _is_leaking(moment: Moment) -> bool:
    return leaks({**_container(moment), "image": moment.run.image})


def _heap_mib(moment: Moment) -> int:
    return min(int(_BASE_MIB + moment.uptime_s * _GROWTH_MIB_PER_S), LEAK_MIB)


def _snapshot(moment: Moment) -> str:
    heap = _heap_mib(moment)
    size = (heap - _BASE_MIB) * _UNIT // 5 + moment.dice.randint(20_000, 90_000)
    level = "warn" if heap > 150 else "info"
    return structured(
        moment, level, "checkout.cart", "cart snapshot serialised inline", cart=f"crt_{hexadecimal(moment.dice, 8)}",
        cart_bytes=size, snapshots_held=int(moment.uptime_s * 3), heap_mb=heap,
    )  # fmt: skip


def _restoring(moment: Moment) -> str:
    restored = int(moment.uptime_s * 118)
    return structured(
        moment, "info", "checkout.cart", "restoring open carts before serving", restored=restored, total=12_480,
        ready=False,
    )  # fmt: skip


def _timeout(moment: Moment) -> str:
    return structured(
        moment, "error", "checkout.payments", "payments-api: context deadline exceeded after 2500ms",
        order=f"ord_{hexadecimal(moment.dice, 10)}", attempt=moment.dice.randint(1, 3),
        upstream="http://payments-api.payments:8080/v1/charges", trace_id=hexadecimal(moment.dice, 32),
    )  # fmt: skip


def _retry(moment: Moment) -> str:
    headers = {"Authorization": f"Bearer {bearer(moment.dice)}", "X-Request-Id": hexadecimal(moment.dice, 16)}
    return structured(
        moment, "warn", "checkout.payments", "retrying POST http://payments-api.payments:8080/v1/charges",
        headers=headers, backoff_ms=moment.dice.choice((100, 200, 400)),
    )  # fmt: skip


def _collected(moment: Moment) -> str:
    return structured(
        moment, "info", "runtime", "garbage collection", pause_ms=round(moment.dice.uniform(0.4, 2.2), 1),
        heap_mb=moment.dice.randint(64, 92),
    )  # fmt: skip


def _line(moment: Moment) -> str:
    if _is_leaking(moment):
        return pick(moment, [(2, _restoring), (6, _snapshot), (3, _timeout), (1, _retry)])
    return pick(moment, [(14, _SERVE), (1, _timeout), (1, _retry), (2, _collected)])


def _end(moment: Moment) -> list[str]:
    if moment.run.exit_reason != "OOMKilled":
        return [
            structured(moment, "info", "main", "received SIGTERM, draining"),
            structured(moment, "info", "main", "bye"),
        ]
    limits = _container(moment).get("resources") or {}
    limit = limits.get("limits", {}).get("memory", "unlimited") if isinstance(limits, dict) else "unlimited"
    return [
        structured(moment, "warn", "runtime", "heap is near the container's memory limit", heap_mb=247, limit=limit),
        structured(
            moment, "error", "checkout.cart", "cart snapshot failed: cannot allocate buffer",
            cart=f"crt_{hexadecimal(moment.dice, 8)}", cart_bytes=41_943_040,
        ),
        "fatal error: runtime: cannot allocate memory",
        "goroutine 4127 [running]:",
        "shop.example/checkout/internal/cart.(*Snapshot).Serialise(0xc0004a2000, {0x0, 0x0, 0x0})",
        "\t/src/internal/cart/snapshot.go:118 +0x1d4",
        "shop.example/checkout/internal/payments.(*Client).Charge(0xc000122b40)",
        "\t/src/internal/payments/client.go:203 +0x3a8",
    ]  # fmt: skip


VOICE = Voice(_line, (3, 7), begin("checkout", "payments client ready", "cart client ready"), _end)
