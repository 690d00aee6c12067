"""A dashboard changed in some places, all else of it as it was. No request is made here."""

import copy
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from opsbus import Change, ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_monitoring.dashboardpanels import panels_of, queries_of, unit_of
from opsbus_monitoring.dashboards import COLUMNS, Dashboard, PanelSpec, panel_of

HEIGHT = 8
SHOWN_CHARS = 12_000
"""Of all values of a plan together."""


class PanelPatch(BaseModel):
    """What to change of a panel, or a new one."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = Field(
        default=None, min_length=1, max_length=200, description="Of the panel to change; no such panel: a new one."
    )
    id: int | None = Field(default=None, ge=0, description="In place of the title, where several have the same.")
    expr: str | None = Field(default=None, min_length=1, max_length=4000, description="PromQL; checked first.")
    ref: Annotated[str | None, Field(max_length=10, description="refId, of a panel with several queries.")] = None
    unit: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_:%/.-]{1,40}$")
    kind: Literal["timeseries", "stat", "gauge", "table", "barchart"] | None = None
    legend: str | None = Field(default=None, max_length=200)
    new_title: str | None = Field(default=None, min_length=1, max_length=200)


def patched(
    before: Dashboard,
    patches: list[PanelPatch],
    removals: list[str],
    title: str | None,
    tags: list[str] | None,
    datasource: str,
) -> Dashboard:
    """The dashboard after the changes.

    Raises:
        ToolError: ``invalid_arguments`` or ``not_found``, naming the panel.
    """
    after: Dashboard = copy.deepcopy(before)
    if title is not None:
        after["title"] = title
    if tags is not None:
        after["tags"] = list(dict.fromkeys(tags))
    for name in removals:
        _remove(after, _one(after, name, None))
    for patch in patches:
        if patch.id is None and patch.title is None:
            raise _wrong("panels: a change needs the title or the id of its panel", "monitoring_get_dashboard_summary.")
        known = _matching(after, patch.title, patch.id)
        if not known and patch.id is None and patch.expr is not None:
            _add(after, patch, datasource)
        else:
            _change(_one(after, patch.title, patch.id), patch, datasource)
    return after


def differences(before: Dashboard, after: Dashboard) -> list[Change]:
    """What a person would call changed, panel by panel."""
    found = [
        Change(path=key, before=before.get(key), after=after.get(key))
        for key in ("title", "tags")
        if before.get(key) != after.get(key)
    ]
    old, new = _shown(before), _shown(after)
    for key in dict.fromkeys([*old, *new]):
        was, will = old.get(key), new.get(key)
        if was is None or will is None:
            path = f"panels[{(was or will or {}).get('title')}]"
            found.append(Change(path=path, before=was and was["queries"], after=will and will["queries"]))
            continue
        found += [
            Change(path=f"panels[{was['title']}].{part}", before=was[part], after=will[part])
            for part in was
            if was[part] != will[part]
        ]
    if not found and _bare(before) != _bare(after):
        found.append(Change(path="dashboard", before="settings outside its panels", after="other ones"))
    return found


def bounded(changes: list[Change]) -> tuple[list[Change], list[str]]:
    """As many changes as a plan can show, and a word about the others."""
    left, shown = SHOWN_CHARS, []
    for change in changes:
        left -= len(str(change.before)) + len(str(change.after)) + len(change.path)
        if left < 0:
            break
        shown.append(change)
    more = len(changes) - len(shown)
    return shown, [f"{more} more changes are too long to be shown here"] if more else []


def changed_specs(before: Dashboard, after: Dashboard) -> list[PanelSpec]:
    """The expressions that are new, each to be checked; the title says where."""
    known = {str(query.get("expr")) for panel in panels_of(before) for query in queries_of(panel)}
    return [
        PanelSpec(title=str(panel.get("title") or panel.get("id") or "untitled")[:200], expr=str(query["expr"])[:4000])
        for panel in panels_of(after)
        for query in queries_of(panel)
        if str(query["expr"]) not in known
    ]


def _change(panel: Dashboard, patch: PanelPatch, datasource: str) -> None:
    if panel.get("libraryPanel"):
        raise _wrong(
            f"the panel {panel.get('title')!r} is of Grafana's library and used by other dashboards too",
            "Change it in the library.",
        )
    if patch.expr is not None or patch.legend is not None:
        query = _query(panel, patch, datasource)
        if patch.expr is not None:
            query["expr"] = patch.expr
        if patch.legend is not None:
            query["legendFormat"] = patch.legend
    if patch.unit is not None:
        panel.setdefault("fieldConfig", {}).setdefault("defaults", {})["unit"] = patch.unit
    if patch.kind is not None:
        panel["type"] = patch.kind
    if patch.new_title is not None:
        panel["title"] = patch.new_title


def _query(panel: Dashboard, patch: PanelPatch, datasource: str) -> Dashboard:
    queries = queries_of(panel)
    refs = [str(query.get("refId")) for query in queries]
    if patch.ref is not None:
        if patch.ref not in refs:
            raise _wrong(f"the panel {panel.get('title')!r} has no query {patch.ref!r}", f"It has {', '.join(refs)}.")
        return queries[refs.index(patch.ref)]
    if len(queries) > 1:
        raise _wrong(
            f"the panel {panel.get('title')!r} has {len(queries)} queries", f"Give ref, one of {', '.join(refs)}."
        )
    if queries:
        return queries[0]
    if panel.get("targets") or patch.expr is None:
        raise _wrong(
            f"the panel {panel.get('title')!r} has no PromQL to change", "Remove it and give a new panel in its place."
        )
    target = {"refId": "A", "expr": patch.expr, "datasource": {"type": "prometheus", "uid": datasource}}
    panel["targets"] = [target]
    return target


def _add(after: Dashboard, patch: PanelPatch, datasource: str) -> None:
    spec = PanelSpec(
        title=patch.new_title or patch.title or "",
        expr=patch.expr or "",
        unit=patch.unit or "short",
        kind=patch.kind or "timeseries",
        legend=patch.legend,
    )
    places = [panel.get("gridPos") or {} for panel in after.get("panels") or [] if isinstance(panel, dict)]
    bottom = max((int(place.get("y") or 0) + int(place.get("h") or 0) for place in places), default=0)
    number = max((int(panel.get("id") or 0) for panel in panels_of(after)), default=0) + 1
    made = panel_of(spec, number, datasource)
    # Beside the last panel when its half of the row is free.
    lowest = [place for place in places if int(place.get("y") or 0) + int(place.get("h") or 0) == bottom]
    alone = len(lowest) == 1 and lowest[0].get("x") == 0 and lowest[0].get("w") == COLUMNS // 2
    if alone and lowest[0].get("h") == HEIGHT:
        made["gridPos"] = {"h": HEIGHT, "w": COLUMNS // 2, "x": COLUMNS // 2, "y": bottom - HEIGHT}
    else:
        made["gridPos"] = {"h": HEIGHT, "w": COLUMNS // 2, "x": 0, "y": bottom}
    after["panels"] = [*(after.get("panels") or []), made]


def _matching(dashboard: Dashboard, title: str | None, number: int | None) -> list[Dashboard]:
    return [
        panel
        for panel in panels_of(dashboard)
        if (panel.get("id") == number if number is not None else panel.get("title") == title)
    ]


def _one(dashboard: Dashboard, title: str | None, number: int | None) -> Dashboard:
    found = _matching(dashboard, title, number)
    if len(found) > 1:
        ids = ", ".join(str(panel.get("id")) for panel in found)
        raise _wrong(f"{len(found)} panels are called {title!r}", f"Name it by id: {ids}.")
    if not found:
        titles = [str(panel.get("title")) for panel in panels_of(dashboard)]
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"the dashboard has no panel {title if number is None else number!r}",
            hint="A new panel needs title and expr. monitoring_get_dashboard_summary lists the panels.",
            did_you_mean=near(title or "", titles),
        )
    return found[0]


def _remove(dashboard: Dashboard, panel: Dashboard) -> None:
    holders = [dashboard, *(one for one in dashboard.get("panels") or [] if isinstance(one, dict))]
    for holder in holders:
        inside = holder.get("panels")
        if isinstance(inside, list) and any(one is panel for one in inside):
            holder["panels"] = [one for one in inside if one is not panel]


def _shown(dashboard: Dashboard) -> dict[str, dict[str, Any]]:
    shown: dict[str, dict[str, Any]] = {}
    for index, panel in enumerate(panels_of(dashboard)):
        queries = {str(query.get("refId", "A")): str(query["expr"]) for query in queries_of(panel)}
        shown[str(panel.get("id") or f"at {index}")] = {
            "title": str(panel.get("title") or ""),
            "queries": next(iter(queries.values())) if len(queries) == 1 else queries,
            "unit": unit_of(panel),
            "kind": str(panel.get("type") or ""),
            "legend": [str(query["legendFormat"]) for query in queries_of(panel) if query.get("legendFormat")],
        }
    return shown


def _bare(dashboard: Dashboard) -> Dashboard:
    return {key: value for key, value in dashboard.items() if key not in ("version", "id")}


def _wrong(message: str, hint: str) -> ToolError:
    return ToolError(ErrorCode.INVALID_ARGUMENTS, message, hint=hint)
