"""Reading a dashboard that anybody made: its panels wherever they are, their queries, its variables.

No request is made here; changing one is dashboardpatch.py's matter.
"""

import re
from collections.abc import Iterator
from typing import Any

from opsbus_monitoring.dashboards import Dashboard

PANELS_MAX = 500
DEPTH_MAX = 4
VALUES_MAX = 5

_NAME = re.compile(r"\$\{([A-Za-z_]\w*)(?::[^}]*)?\}|\$([A-Za-z_]\w*)|\[\[([A-Za-z_]\w*)\]\]")
"""``${name}``, ``${name:regex}``, ``$name``, ``[[name]]``."""

_BUILT_IN = {
    "__interval": "5m",
    "__rate_interval": "5m",
    "__range": "1h",
    "__interval_ms": "300000",
    "__range_s": "3600",
    "__range_ms": "3600000",
}
"""What Grafana fills in itself, as a panel of the last hours would have it."""


def panels_of(dashboard: Dashboard) -> list[Dashboard]:
    """Every panel but the rows; what lies in a folded row too."""
    return list(_walk(dashboard.get("panels"), 0))[:PANELS_MAX]


def queries_of(panel: Dashboard) -> list[Dashboard]:
    """Its targets with an expression."""
    targets = panel.get("targets")
    return [one for one in (targets if isinstance(targets, list) else []) if isinstance(one, dict) and one.get("expr")]


def unit_of(panel: Dashboard) -> str:
    """Its unit; empty when it has none."""
    return str(((panel.get("fieldConfig") or {}).get("defaults") or {}).get("unit") or "")


def variables_of(dashboard: Dashboard) -> dict[str, str]:
    """Name to the value chosen now, as it would stand in an expression."""
    listed = (dashboard.get("templating") or {}).get("list") or []
    return {str(one["name"]): _current(one) for one in listed if isinstance(one, dict) and one.get("name")}


def filled(expr: str, variables: dict[str, str]) -> tuple[str, list[str]]:
    """The expression as Grafana would send it, and the variables that are not known."""
    unknown: list[str] = []

    def value(found: re.Match[str]) -> str:
        name = next(group for group in found.groups() if group)
        text = _BUILT_IN.get(name, variables.get(name))
        if text is None:
            unknown.append(name)
            return found.group()
        return text

    return _NAME.sub(value, expr), list(dict.fromkeys(unknown))


def _walk(panels: Any, depth: int) -> Iterator[Dashboard]:
    for panel in panels if isinstance(panels, list) and depth < DEPTH_MAX else []:
        if not isinstance(panel, dict):
            continue
        if panel.get("type") != "row":
            yield panel
        yield from _walk(panel.get("panels"), depth + 1)


def _current(variable: dict[str, Any]) -> str:
    value = (variable.get("current") or {}).get("value")
    values = [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]
    if not values or values == ["$__all"]:
        return str(variable.get("allValue") or ".*")
    return "|".join(values)
