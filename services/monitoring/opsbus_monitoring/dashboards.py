"""Dashboards as Grafana stores them: panels from a short form, and what one version changes in another.

No request is made here.
"""

import copy
import re
import unicodedata
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from opsbus import Change

MADE_BY = "opsbus"
"""A tag: what carries it was made here."""

UID_CHARS_MAX = 40
COLUMNS = 24

Dashboard = dict[str, Any]


class PanelSpec(BaseModel):
    """One panel, as a caller asks for it."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1, max_length=200)
    expr: str = Field(min_length=1, max_length=4000, description="PromQL; checked before anything is saved.")
    unit: str = Field(
        default="short",
        pattern=r"^[A-Za-z0-9_:%/.-]{1,40}$",
        description="Grafana's: short, s, bytes, percentunit, reqps.",
    )
    kind: Literal["timeseries", "stat", "gauge", "table", "barchart"] = "timeseries"
    legend: Annotated[str | None, Field(max_length=200, description="{{pod}} stands for the label pod.")] = None


def uid_of(title: str) -> str:
    """A uid that the same title always gives: saving twice updates, it never clones."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    if slug and len(slug) <= UID_CHARS_MAX:
        return slug
    return f"{slug[: UID_CHARS_MAX - 9]}-{sha256(title.encode()).hexdigest()[:8]}".strip("-")


def panel_of(spec: PanelSpec, number: int, datasource: str) -> Dashboard:
    """Grafana's form of a panel, two in a row."""
    target = {"refId": "A", "expr": spec.expr, "datasource": {"type": "prometheus", "uid": datasource}}
    if spec.legend:
        target["legendFormat"] = spec.legend
    return {
        "id": number,
        "type": spec.kind,
        "title": spec.title,
        "datasource": {"type": "prometheus", "uid": datasource},
        "fieldConfig": {"defaults": {"unit": spec.unit}, "overrides": []},
        "targets": [target],
        "gridPos": {"h": 8, "w": COLUMNS // 2, "x": COLUMNS // 2 * ((number - 1) % 2), "y": 8 * ((number - 1) // 2)},
    }


def merged(
    known: Dashboard | None, uid: str, title: str, panels: list[PanelSpec], tags: list[str], datasource: str
) -> Dashboard:
    """The dashboard to save: the known one with its panels replaced, or a new one. All else of a known one stays."""
    base: Dashboard = copy.deepcopy(known) if known else {"schemaVersion": 39, "time": {"from": "now-6h", "to": "now"}}
    base |= {"uid": uid, "title": title}
    base["tags"] = list(dict.fromkeys([*(base.get("tags") or []), *tags, MADE_BY]))
    base["panels"] = [panel_of(spec, number, datasource) for number, spec in enumerate(panels, start=1)]
    base.setdefault("editable", True)
    return base


def changes_between(before: Dashboard | None, after: Dashboard) -> list[Change]:
    """What a person would call changed: title, tags, and panels by title with their expressions."""
    known = before or {}
    found = [
        Change(path=key, before=known.get(key), after=after.get(key))
        for key in ("title", "tags")
        if known.get(key) != after.get(key)
    ]
    old_panels, new_panels = _shown(known), _shown(after)
    for title in dict.fromkeys([*old_panels, *new_panels]):
        old, new = old_panels.get(title), new_panels.get(title)
        if old != new:
            found.append(Change(path=f"panels[{title}]", before=old, after=new))
    if not found and list(old_panels) != list(new_panels):
        found.append(Change(path="panels", before=list(old_panels), after=list(new_panels)))
    return found


def _shown(dashboard: Dashboard) -> dict[str, str]:
    shown = {}
    for panel in dashboard.get("panels") or []:
        expressions = " ; ".join(str(target.get("expr", "")) for target in panel.get("targets") or [])
        unit = ((panel.get("fieldConfig") or {}).get("defaults") or {}).get("unit", "")
        legend = " ".join(str(target.get("legendFormat", "")) for target in panel.get("targets") or []).strip()
        kind = panel.get("type", "")
        shown[str(panel.get("title", ""))] = " | ".join(part for part in (expressions, unit, kind, legend) if part)
    return shown
