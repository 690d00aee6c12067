"""monitoring_patch_dashboard."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from opsbus import Change, Context, ErrorCode, Plan, ToolError, Undo
from opsbus_monitoring.arguments import Confirm, DryRun, IdempotencyKey, Reason
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.dashboardpanels import filled, variables_of
from opsbus_monitoring.dashboardpatch import PanelPatch, bounded, changed_specs, differences, patched
from opsbus_monitoring.dashboards import UID_CHARS_MAX, Dashboard, PanelSpec
from opsbus_monitoring.faults import asking, told
from opsbus_monitoring.grafana import Grafana
from opsbus_monitoring.overview import DASHBOARDS_URI
from opsbus_monitoring.prometheus import Prometheus
from opsbus_monitoring.querymodels import empty, optional
from opsbus_monitoring.tool_dashboard_summary import find_dashboard
from opsbus_monitoring.tool_dashboards import (
    PANELS_MAX,
    PanelCheck,
    check_panels,
    prometheus_of,
    public_url,
    require_no_namesake,
    require_ours_to_change,
)

_OWN = ("id", "uid", "version")
"""Grafana's, and not part of what a version says."""


class DashboardPatch(BaseModel):
    """What the change did, or would do."""

    outcome: Literal["planned", "unchanged", "updated"] = Field(description="planned: a dry run, nothing was saved.")
    uid: str
    title: str
    url: str
    version: int | None = optional("Grafana's number of this version.")
    previous_version: int | None = optional()
    plan: Plan | None = optional("What would be done.")
    panels: list[PanelCheck] = Field(default_factory=list, exclude_if=empty, description="The new expressions.")
    verified: bool | None = optional("It was read again, and is so.")
    undo: Undo | None = optional("The call that takes it back.")
    warnings: list[str] = Field(default_factory=list)
    as_of: datetime

    def to_text(self) -> str:
        """A few lines."""
        lines = {
            "planned": [f"Dry run, nothing was saved: {self.title} ({self.uid})."],
            "unchanged": [f"{self.title} ({self.uid}) is so already; nothing was saved."],
            "updated": [f"Updated {self.title} to version {self.version}: {self.url}"],
        }[self.outcome]
        if self.outcome == "planned" and self.plan:
            return "\n".join([*lines, self.plan.to_text()])
        if self.undo:
            lines.append(f"Undo: {self.undo.tool} {self.undo.arguments}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


async def patch_dashboard(
    ctx: Context[Backends],
    uid: Annotated[str, Field(pattern=rf"^[A-Za-z0-9_-]{{1,{UID_CHARS_MAX}}}$", description="The dashboard's.")],
    reason: Reason,
    panels: Annotated[
        list[PanelPatch] | None,
        Field(min_length=1, max_length=PANELS_MAX, description='[{"title": "p99", "expr": "...", "unit": "s"}]'),
    ] = None,
    remove_panels: Annotated[
        list[Annotated[str, Field(max_length=200)]] | None, Field(max_length=PANELS_MAX, description="Titles.")
    ] = None,
    title: Annotated[str | None, Field(min_length=1, max_length=200)] = None,
    tags: Annotated[list[str] | None, Field(max_length=20, description="All of them.")] = None,
    restore_version: Annotated[
        int | None, Field(ge=1, description="Make it as that version was; alone, without other changes.")
    ] = None,
    dry_run: DryRun = False,
    confirm: Confirm = None,
    idempotency_key: IdempotencyKey = None,
    expected_version: Annotated[
        int | None, Field(ge=1, description="The version as read before; refused when it has changed since.")
    ] = None,
) -> DashboardPatch:
    """Change some panels of a Grafana dashboard, after a person confirmed the plan; all else of it stays as it is.

    A panel is named by its title; an unknown title with expr is a new one. Every new expression is checked with
    Prometheus first. To replace all panels or make a dashboard: monitoring_create_dashboard.
    """
    backends, grafana = ctx.state, ctx.state.grafana
    _require_one_kind(restore_version, [panels, remove_panels, title, tags])
    known = await find_dashboard(grafana, uid)
    before, meta = known["dashboard"], known.get("meta") or {}
    uid = str(before["uid"])
    require_ours_to_change(uid, meta, before, expected_version)
    if restore_version is not None:
        after, checks, warnings = await _restored(grafana, before, restore_version)
    else:
        with asking():
            datasource = prometheus_of(await grafana.datasources())
        after = patched(before, panels or [], remove_panels or [], title, tags, datasource)
        checks, warnings = await _checked(backends.prometheus, before, after)
    if str(after["title"]) != str(before["title"]):
        await require_no_namesake(grafana, str(after["title"]), uid)
    changes = differences(before, after)
    base: dict[str, Any] = {
        "uid": uid,
        "title": str(after["title"]),
        "url": public_url(backends, str(meta.get("url", ""))),
        "panels": checks,
        "as_of": datetime.now(UTC),
    }
    version = before.get("version")
    if not changes:
        return DashboardPatch(outcome="unchanged", version=version, warnings=warnings, **base)
    undo = Undo(
        tool="monitoring_patch_dashboard",
        arguments={"uid": uid, "restore_version": version, "reason": f"undo: {reason}"[:500]},
    )
    plan = _plan(before, changes, reason, restore_version, undo, warnings)
    if dry_run:
        return DashboardPatch(outcome="planned", version=version, plan=plan, **base)
    await ctx.confirm(plan, version=str(version), confirm=confirm)
    folder = str(meta.get("folderUid") or "")
    saved, notes = await _saved(grafana, after, folder, reason)
    data = {"uid": uid, "title": str(after["title"]), "version": saved, "reason": reason}
    await ctx.emit("dashboard_saved", data, uid)
    await ctx.resource_updated(DASHBOARDS_URI)
    verified, doubts = await _verified(grafana, after)
    return DashboardPatch(
        outcome="updated",
        version=saved,
        previous_version=version,
        verified=verified,
        undo=undo,
        warnings=[*plan.warnings, *notes, *doubts],
        **base,
    )


async def _checked(prometheus: Prometheus, before: Dashboard, after: Dashboard) -> tuple[list[PanelCheck], list[str]]:
    """Asks Prometheus for what is new, with the dashboard's variables filled in."""
    variables = variables_of(after)
    specs: list[PanelSpec] = []
    for spec in changed_specs(before, after):
        whole, unknown = filled(spec.expr, variables)
        if unknown:
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                f"panel {spec.title!r}: the dashboard has no variable {', '.join(unknown)}",
                hint=f"It has {', '.join(variables) or 'none'}.",
            )
        specs.append(spec.model_copy(update={"expr": whole}))
    checks = await check_panels(prometheus, specs)
    return checks, [f"panel {one.title!r} shows nothing now: {one.note}" for one in checks if not one.series]


async def _restored(grafana: Grafana, before: Dashboard, version: int) -> tuple[Dashboard, list[PanelCheck], list[str]]:
    """The dashboard as it was. Its expressions were checked when they were saved: an undo does not hang on Prometheus.

    Raises:
        ToolError: ``not_found``: Grafana does not have that version any more.
    """
    uid = str(before["uid"])
    with asking():
        old = await grafana.dashboard_version(uid, version)
    if old is None:
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"Grafana has no version {version} of the dashboard {uid}",
            hint=f"It is at version {before.get('version')}; Grafana keeps the last ones only.",
        )
    own = {key: before[key] for key in _OWN if key in before}
    return {**{key: value for key, value in old.items() if key not in _OWN}, **own}, [], []


async def _saved(grafana: Grafana, after: Dashboard, folder: str, reason: str) -> tuple[int | None, list[str]]:
    """Saves; the version inside is compared by Grafana. A write that is not answered is looked after.

    Raises:
        ToolError: Grafana's refusal, or ``outcome_unknown``.
    """
    try:
        return (await grafana.save(after, folder_uid=folder, message=reason)).get("version"), []
    except BackendError as error:
        fault = told(error, writes=True)
        if fault.code is ErrorCode.OUTCOME_UNKNOWN:
            now = await _now(grafana, str(after["uid"]))
            if now is not None and now.get("version") != after.get("version") and not differences(after, now):
                return now.get("version"), [f"the write was not answered ({error.message}), but it was carried out"]
        raise fault from error


async def _verified(grafana: Grafana, after: Dashboard) -> tuple[bool, list[str]]:
    now = await _now(grafana, str(after["uid"]))
    if now is None:
        return False, ["it was carried out, but reading it again failed"]
    left = differences(after, now)
    return not left, [f"Grafana took it, but {change.path} is not as it was sent" for change in left[:5]]


async def _now(grafana: Grafana, uid: str) -> Dashboard | None:
    try:
        found = await grafana.dashboard(uid)
    except BackendError:
        return None
    return found["dashboard"] if found else None


def _plan(
    before: Dashboard, changes: list[Change], reason: str, restored: int | None, undo: Undo, warnings: list[str]
) -> Plan:
    what = f"Restore version {restored} of" if restored is not None else "Change"
    name = f"{before['title']!r} ({before['uid']}, version {before.get('version')})"
    shown, cut = bounded(changes)
    return Plan(
        summary=f"{what} the dashboard {name}: {reason}",
        changes=shown,
        blast_radius="everybody who looks at it",
        undo=undo,
        warnings=[*warnings, *cut],
    )


def _require_one_kind(restore_version: int | None, changes: list[Any]) -> None:
    given = [change for change in changes if change is not None]
    if restore_version is not None and given:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "restore_version stands alone", hint="Restore first, then change.")
    if restore_version is None and not given:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "nothing to change was given",
            hint="Give panels, remove_panels, title, tags or restore_version.",
        )
