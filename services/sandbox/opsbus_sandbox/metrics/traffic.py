"""The shop's traffic: how busy each service is at a moment, and how it fails while checkout is in trouble.

Pure functions of time, so that history can be written when the estate starts and the live samples go on from it.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

TROUBLE_S = 20 * 60.0
"""How long ago the bad release went out when the estate starts. Seconds."""

REQUESTS_PER_S = {
    "frontend": 60.0,
    "catalog": 45.0,
    "cart": 20.0,
    "recommendations": 25.0,
    "checkout": 8.0,
    "payments-api": 6.0,
    "ledger": 5.0,
}
LATENCY_S = {
    "frontend": 0.09,
    "catalog": 0.03,
    "cart": 0.04,
    "recommendations": 0.12,
    "checkout": 0.18,
    "payments-api": 0.15,
    "ledger": 0.05,
}
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Load:
    """A service's traffic at a moment."""

    requests_per_s: float
    errors: float
    """Share of 5xx answers, 0 to 1."""
    latency_s: float
    """Median; the distribution is log-normal around it."""
    spread: float
    """Sigma of the log-normal."""


def wobble(key: str, when: float, amount: float) -> float:
    """A steady, repeatable unrest around 1: three slow waves whose phases come from the key."""
    phase = zlib.crc32(key.encode()) % 1000 / 1000 * math.tau
    waves = math.sin(when / 97 + phase) + math.sin(when / 331 + 2 * phase) + 0.5 * math.sin(when / 41 + 3 * phase)
    return 1 + amount * waves / 2.5


def load(app: str, namespace: str, when: float, trouble_since: float, ready_share: float) -> Load | None:
    """The traffic of a service; None for what takes no requests. ``ready_share`` is ready over wanted replicas."""
    base = REQUESTS_PER_S.get(app)
    if base is None:
        return None
    day = 0.65 + 0.35 * math.sin((when % 86_400) / 86_400 * math.tau - math.pi / 2)
    scale = 0.03 if namespace.endswith("-staging") else 1.0
    rate = base * scale * day * wobble(f"{namespace}/{app}", when, 0.12)
    errors, latency, spread = 0.0015, LATENCY_S[app] * wobble(app, when, 0.08), 0.45
    hurt = max(0.0, 1.0 - ready_share)
    if namespace == "shop" and when >= trouble_since and app in ("checkout", "frontend", "payments-api"):
        onset = min(1.0, (when - trouble_since) / 240)
        if app == "checkout" and hurt:
            errors += onset * (0.08 + 0.1 * hurt)
            latency *= 1 + onset * 4 * (0.4 + hurt)
            spread += onset * 0.5
            rate *= 1 + 0.15 * onset
        elif app == "frontend" and hurt >= 0:
            errors += onset * 0.012
            latency *= 1 + onset * 0.5
    if ready_share <= 0 and not namespace.endswith("-staging"):
        errors = 1.0
    return Load(rate, min(1.0, errors), latency, spread)


def share_below(bound_s: float, traffic: Load) -> float:
    """Share of requests that took at most ``bound_s``."""
    return 0.5 * (1 + math.erf(math.log(bound_s / traffic.latency_s) / (traffic.spread * math.sqrt(2))))


def memory_share(app: str, namespace: str, when: float, trouble_since: float, pod: str) -> float:
    """Working set over the limit, 0 to 1: checkout climbs until it is killed, again and again."""
    if app == "checkout" and namespace == "shop" and when >= trouble_since:
        period = 210 + zlib.crc32(pod.encode()) % 90
        return 0.45 + 0.54 * (((when + zlib.crc32(pod.encode()) % period) % period) / period)
    return min(0.95, 0.52 * wobble(pod, when, 0.15))
