"""monitoring_get_dashboard_summary."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, cast

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, Page, ToolError
from opsbus.toolerror import near
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.dashboardpanels import filled, panels_of, queries_of, unit_of, variables_of
from opsbus_monitoring.dashboards import UID_CHARS_MAX
from opsbus_monitoring.faults import asking
from opsbus_monitoring.grafana import Grafana
from opsbus_monitoring.prometheus import Prometheus
from opsbus_monitoring.querymodels import empty, optional
from opsbus_monitoring.tool_dashboards import CHECKS_AT_ONCE, public_url

BUDGET_BYTES = 18_000
CHECKS_MAX = 60
EXPR_CHARS = 1_000
LINES_MAX = 60


class PanelRow(BaseModel):
    """One panel."""

    id: int | None = optional()
    title: str
    kind: str = Field(description="timeseries, stat, text, ...")
    unit: str | None = optional()
    exprs: dict[str, str] | None = optional("refId to PromQL. Left out: no PromQL.")
    series: int | None = optional("With check: series its queries give now; 0: it shows nothing.")
    problem: str | None = optional("With check: why it cannot be asked.")

    def to_text(self) -> str:
        """One line."""
        state = f" [{self.problem}]" if self.problem else "" if self.series is None else f" [{self.series} series]"
        exprs = " ; ".join((self.exprs or {}).values())
        return f"{self.id}. {self.title} ({self.kind}{', ' + self.unit if self.unit else ''}){state} {exprs}".rstrip()


class DashboardSummary(Page[PanelRow]):
    """A dashboard and its panels, those that show nothing first when they were checked."""

    uid: str = ""
    title: str = ""
    url: str = ""
    folder: str = ""
    version: int | None = optional("For expected_version.")
    tags: list[str] = Field(default_factory=list, exclude_if=empty)
    variables: dict[str, str] = Field(default_factory=dict, exclude_if=empty, description="Name to the value chosen.")
    updated: str | None = optional()
    updated_by: str | None = optional()
    provisioned: bool = Field(default=False, description="From files: it cannot be changed by a tool.")

    def to_text(self) -> str:
        """Its head, then a line per panel."""
        lines = [f"{self.title} ({self.uid}), version {self.version}, in {self.folder}: {self.url}"]
        if self.variables:
            lines.append("Variables: " + ", ".join(f"{name}={value}" for name, value in self.variables.items()))
        lines += [item.to_text() for item in self.items[:LINES_MAX]]
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


async def get_dashboard_summary(
    ctx: Context[Backends],
    dashboard: Annotated[str, Field(min_length=1, max_length=200, description="uid, or the exact title.")],
    check: Annotated[bool, Field(description="Ask Prometheus which panels show nothing now.")] = False,
) -> DashboardSummary:
    """What a Grafana dashboard shows: panels with their PromQL and units, variables, version, who changed it.

    Example: dashboard="shop-red", check=true. Before monitoring_patch_dashboard. For one expression's values:
    monitoring_query_metrics.
    """
    backends = ctx.state
    found = await find_dashboard(backends.grafana, dashboard)
    document, meta = found["dashboard"], found.get("meta") or {}
    variables = variables_of(document)
    rows, warnings = [_row(panel) for panel in panels_of(document)], []
    if check:
        warnings = await _check(backends.prometheus, rows, variables)
        rows.sort(key=lambda row: (row.problem is None, row.series != 0))
    page = DashboardSummary.fit(
        rows, budget_bytes=BUDGET_BYTES, total=len(rows), warnings=warnings, source="grafana", as_of=datetime.now(UTC)
    )
    head: dict[str, Any] = {
        "uid": str(document.get("uid", "")),
        "title": str(document.get("title", "")),
        "url": public_url(backends, str(meta.get("url", ""))),
        "folder": str(meta.get("folderTitle") or "General"),
        "version": document.get("version"),
        "tags": [str(tag) for tag in document.get("tags") or []],
        "variables": variables,
        "updated": meta.get("updated"),
        "updated_by": meta.get("updatedBy"),
        "provisioned": bool(meta.get("provisioned")),
    }
    return cast(DashboardSummary, page.model_copy(update=head))


async def find_dashboard(grafana: Grafana, name: str) -> dict[str, Any]:
    """``{meta, dashboard}`` of a uid or an exact title.

    Raises:
        ToolError: ``not_found`` with those that are meant, ``conflict`` when several have the title.
    """
    with asking():
        if len(name) <= UID_CHARS_MAX and name.replace("-", "").replace("_", "").isalnum() and name.isascii():
            known = await grafana.dashboard(name)
            if known is not None:
                return known
        hits = await grafana.search("")
        same = [hit for hit in hits if str(hit.get("title", "")).strip().lower() == name.strip().lower()]
        if len(same) == 1 and (known := await grafana.dashboard(str(same[0]["uid"]))) is not None:
            return known
    if len(same) > 1:
        uids = [str(hit.get("uid")) for hit in same]
        raise ToolError(
            ErrorCode.CONFLICT, f"{len(same)} dashboards are called {name!r}", hint="Give the uid.", did_you_mean=uids
        )
    titles = {str(hit.get("title")): str(hit.get("uid")) for hit in hits}
    close = near(name, [*titles, *titles.values()])
    raise ToolError(
        ErrorCode.NOT_FOUND,
        f"Grafana has no dashboard {name[:100]!r}",
        hint="The resource enterprise://monitoring/dashboards lists them.",
        did_you_mean=list(dict.fromkeys(titles.get(one, one) for one in close)),
    )


def _row(panel: dict[str, Any]) -> PanelRow:
    number = panel.get("id")
    return PanelRow(
        id=number if isinstance(number, int) else None,
        title=str(panel.get("title") or ""),
        kind=str(panel.get("type") or ""),
        unit=unit_of(panel) or None,
        exprs={str(query.get("refId") or "A"): str(query["expr"])[:EXPR_CHARS] for query in queries_of(panel)},
    )


async def _check(prometheus: Prometheus, rows: list[PanelRow], variables: dict[str, str]) -> list[str]:
    """Fills in what the panels show now; gives what a reader must know."""
    places = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def ask(row: PanelRow) -> None:
        series = 0
        for expr in (row.exprs or {}).values():
            whole, unknown = filled(expr, variables)
            if unknown:
                row.problem = f"unknown variable {', '.join(unknown)}"
                return
            async with places:
                try:
                    series += len((await prometheus.query(whole)).series)
                except BackendError as error:
                    row.problem = error.message[:300]
                    return
        row.series = series

    asked = [row for row in rows if row.exprs][:CHECKS_MAX]
    await asyncio.gather(*(ask(row) for row in asked))
    left = sum(1 for row in rows if row.exprs) - len(asked)
    silent = [row.title for row in asked if row.series == 0]
    notes = [f"{len(silent)} panels show nothing now: {', '.join(silent[:5])}"] if silent else []
    return notes + ([f"{left} panels were not checked"] if left else [])
