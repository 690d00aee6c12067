"""The gate that bounds how often: over all, by caller, by tool, by tool and caller; before sign-in, by address.

The caller is the identity, whatever session or connection it comes by; the tool is the one in the body.
"""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.catalog import ToolEntry
from opsbus_edge.dispatch.order import Target
from opsbus_edge.limits import Leases, Rate, rate_of
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import Caller, error_body
from opsbus_edge.settings.limits import LimitSettings

FAILED_SIGN_IN_COSTS = 9.0
"""Tokens of the address, beside that of the request."""
_CACHE_MAX = 10_000
_Rated = tuple[str, str, Rate]


class RateLimits:
    """The rates that the settings name."""

    def __init__(self, settings: LimitSettings, leases: Leases, metrics: Metrics) -> None:
        self._leases = leases
        self._metrics = metrics
        self._global = _rate(settings.rate_global)
        self._caller = _rate(settings.rate_caller)
        self._address = _rate(settings.rate_address)
        self._roles = _rates(settings.rate_roles)
        self._tools = _rates(settings.rate_tools)
        self._tool_callers = _rates(settings.rate_tool_callers)
        self._on = any((self._global, self._caller, self._roles, self._tools, self._tool_callers))
        self._by_tool: dict[str, tuple[Rate | None, Rate | None]] = {}

    async def enter(self, caller: Caller, target: Target) -> ErrorBody | None:
        """Count a call; the error when it is one too many, and then nothing is counted."""
        if not self._on:
            return None
        taken: list[_Rated] = []
        for limit, key, rate in self._rated(caller, target):
            wait_s = await self._leases.take(limit, key, rate)
            if wait_s:
                for earlier, its_key, _ in taken:
                    self._leases.give_back(earlier, its_key)
                self._metrics.rate_limit_hits.labels(limit).inc()
                return _refusal(_WHOSE[limit], rate, wait_s)
            taken.append((limit, key, rate))
        return None

    async def address(self, address: str) -> ErrorBody | None:
        """Count a request of an address, before anybody knows whose it is."""
        if self._address is None or not address:
            return None
        wait_s = await self._leases.take("address", address, self._address)
        if not wait_s:
            return None
        self._metrics.rate_limit_hits.labels("address").inc()
        return _refusal(_WHOSE["address"], self._address, wait_s)

    def failed_sign_in(self, address: str) -> None:
        """A request that proved nobody costs its address more: guessing is slow."""
        if self._address is not None and address:
            self._leases.charge("address", address, self._address, FAILED_SIGN_IN_COSTS)

    def _rated(self, caller: Caller, target: Target) -> list[_Rated]:
        """The buckets that a call takes from; those that empty soonest first."""
        found: list[_Rated] = []
        if isinstance(target, ToolEntry):
            of_tool, of_both = self._of_tool(target.name)
            if of_both is not None:
                found.append(("tool_caller", f"{target.name}\n{caller.sub}", of_both))
            if of_tool is not None:
                found.append(("tool", target.name, of_tool))
        own = self._of_caller(caller)
        if own is not None:
            found.append(("caller", caller.sub, own))
        if self._global is not None:
            found.append(("global", "", self._global))
        return found

    def _of_caller(self, caller: Caller) -> Rate | None:
        if not self._roles:
            return self._caller
        rates = [self._roles[role] for role in caller.roles if role in self._roles]
        return max(rates, key=lambda rate: rate.per_s) if rates else self._caller

    def _of_tool(self, tool: str) -> tuple[Rate | None, Rate | None]:
        found = self._by_tool.get(tool)
        if found is None:
            if len(self._by_tool) >= _CACHE_MAX:
                self._by_tool.clear()
            found = self._by_tool[tool] = (_fitting(self._tools, tool), _fitting(self._tool_callers, tool))
        return found


_WHOSE = {
    "global": "all callers together",
    "caller": "one caller",
    "tool": "this tool",
    "tool_caller": "one caller of this tool",
    "address": "one address",
}


def _rate(text: str) -> Rate | None:
    return rate_of(text) if text else None


def _rates(texts: Mapping[str, str]) -> dict[str, Rate]:
    return {name: rate_of(text) for name, text in texts.items()}


def _fitting(rates: Mapping[str, Rate], tool: str) -> Rate | None:
    return next((rate for glob, rate in rates.items() if fnmatchcase(tool, glob)), None)


def _refusal(whose: str, rate: Rate, wait_s: float) -> ErrorBody:
    return error_body(
        ErrorCode.RATE_LIMITED,
        f"the rate of {whose} is used up ({rate.text})",
        hint=f"Try again in {max(1, math.ceil(wait_s))} s, and less often.",
        retry_after_ms=max(1, math.ceil(wait_s * 1000)),
    )
