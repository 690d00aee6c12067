"""monitoring_create_dashboard."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, Plan, ToolError, Undo
from opsbus.toolerror import near
from opsbus_monitoring.backend import BackendError
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.dashboards import MADE_BY, UID_CHARS_MAX, PanelSpec, changes_between, merged, uid_of
from opsbus_monitoring.emptiness import LOOKBACK_S, Doctor
from opsbus_monitoring.faults import asking, told
from opsbus_monitoring.grafana import Grafana
from opsbus_monitoring.overview import DASHBOARDS_URI
from opsbus_monitoring.prometheus import Prometheus
from opsbus_monitoring.querymodels import empty, optional
from opsbus_monitoring.templates import fill

PANELS_MAX = 40
CHECKS_AT_ONCE = 4

Reason = Annotated[
    str, Field(min_length=3, max_length=500, description="Why, for the audit log and the dashboard's history.")
]


class PanelCheck(BaseModel):
    """What Prometheus said to a panel's expression."""

    title: str
    series: int
    note: str | None = optional("Why it shows nothing now.")


class DashboardOutcome(BaseModel):
    """What saving did, or would do."""

    outcome: Literal["planned", "unchanged", "created", "updated"] = Field(
        description="planned: a dry run, nothing was saved."
    )
    uid: str
    title: str
    url: str | None = optional("Where people open it.")
    version: int | None = optional("Grafana's number of this version.")
    previous_version: int | None = optional("Grafana keeps it, and can restore it.")
    plan: Plan | None = optional("What would be done.")
    panels: list[PanelCheck] = Field(default_factory=list, exclude_if=empty)
    warnings: list[str] = Field(default_factory=list)
    undo: Undo | None = optional("The call that takes an update back.")
    undo_note: str | None = optional("How to take it back.")
    as_of: datetime

    def to_text(self) -> str:
        """A few lines."""
        told = {
            "planned": f"Dry run, nothing was saved: {self.title} ({self.uid}).",
            "unchanged": f"{self.title} ({self.uid}) is so already; nothing was saved.",
            "created": f"Created {self.title}: {self.url}",
            "updated": f"Updated {self.title} to version {self.version}: {self.url}",
        }
        lines = [told[self.outcome]]
        if self.outcome == "planned" and self.plan:
            return "\n".join([*lines, self.plan.to_text()])
        if self.undo_note:
            lines.append(self.undo_note)
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])


async def create_dashboard(
    ctx: Context[Backends],
    reason: Reason,
    title: Annotated[str | None, Field(min_length=1, max_length=200, description="Default: the template's.")] = None,
    panels: Annotated[
        list[PanelSpec] | None, Field(min_length=1, max_length=PANELS_MAX, description="In the order of the page.")
    ] = None,
    template: Annotated[
        str | None,
        Field(description="Not panels: service_red, nodes_use, workload, namespace_workloads, platform."),
    ] = None,
    variables: Annotated[
        dict[str, str] | None, Field(max_length=10, description='The template\'s: {"service": "checkout"}.')
    ] = None,
    folder: Annotated[
        str | None, Field(max_length=200, description="Title or uid. Default: where it is, else General.")
    ] = None,
    uid: Annotated[
        str | None, Field(pattern=rf"^[A-Za-z0-9_-]{{1,{UID_CHARS_MAX}}}$", description="Default: made of the title.")
    ] = None,
    tags: Annotated[list[str] | None, Field(max_length=20, description="To find it by.")] = None,
    dry_run: Annotated[bool, Field(description="Only show the plan.")] = False,
    confirm: Annotated[
        str | None, Field(max_length=2000, description="The token of a confirmation_required answer.")
    ] = None,
    idempotency_key: Annotated[str | None, Field(max_length=200)] = None,
    expected_version: Annotated[
        int | None,
        Field(ge=0, description="The dashboard's version as read before; refused when it has changed since."),
    ] = None,
) -> DashboardOutcome:
    """Save a Grafana dashboard of the given panels or a template, after a person confirmed the plan.

    Every expression is checked with Prometheus first. A dashboard of the same uid is updated, never cloned: its
    panels are replaced, all else of it stays. Grafana keeps the version before.
    """
    backends = ctx.state
    made_title, specs = _wanted(backends, title, panels, template, variables)
    grafana, chosen = backends.grafana, uid or uid_of(made_title)
    checks = await check_panels(backends.prometheus, specs)
    with asking():
        known = await grafana.dashboard(chosen)
        folders = await grafana.folders()
        datasource = prometheus_of(await grafana.datasources())
    before = known["dashboard"] if known else None
    meta: dict[str, Any] = known["meta"] if known else {}
    require_ours_to_change(chosen, meta, before, expected_version)
    if before is None:
        await require_no_namesake(grafana, made_title, chosen)
    folder_uid = _folder(folder, folders) if folder is not None else str(meta.get("folderUid") or "")
    after = merged(before, chosen, made_title, specs, tags or [], datasource)
    found: dict[str, Any] = {"uid": chosen, "title": made_title, "panels": checks, "as_of": datetime.now(UTC)}
    same_folder = folder_uid == str(meta.get("folderUid") or "")
    if before is not None and same_folder and not changes_between(before, after):
        return DashboardOutcome(outcome="unchanged", version=before.get("version"), **found)
    plan = _plan(before, after, folder_uid, folders, checks, reason, same_folder=same_folder)
    if dry_run:
        return DashboardOutcome(outcome="planned", plan=plan, **found)
    await ctx.confirm(plan, version=str(before.get("version")) if before else "new", confirm=confirm)
    try:
        saved = await grafana.save(after, folder_uid=folder_uid, message=reason)
    except BackendError as error:
        raise told(error, writes=True) from error
    await ctx.emit(
        "dashboard_saved",
        {"uid": chosen, "title": made_title, "version": saved.get("version"), "reason": reason},
        chosen,
    )
    await ctx.resource_updated(DASHBOARDS_URI)
    return DashboardOutcome(
        outcome="updated" if before else "created",
        url=public_url(backends, str(saved.get("url", ""))),
        version=saved.get("version"),
        previous_version=before.get("version") if before else None,
        undo=plan.undo,
        undo_note=_undo_note(before),
        warnings=plan.warnings,
        **found,
    )


async def check_panels(prometheus: Prometheus, specs: list[PanelSpec]) -> list[PanelCheck]:
    """Every expression, asked of Prometheus.

    Raises:
        ToolError: ``invalid_arguments`` naming each panel whose expression is refused; Prometheus does not answer.
    """
    places = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def check(spec: PanelSpec) -> PanelCheck | BackendError:
        async with places:
            try:
                result = await prometheus.query(spec.expr)
            except BackendError as error:
                return error
            if result.series:
                return PanelCheck(title=spec.title, series=len(result.series))
            at = datetime.now(UTC).timestamp()
            findings = await Doctor(prometheus, at, LOOKBACK_S).explain(spec.expr)
            return PanelCheck(title=spec.title, series=0, note=f"{findings[0].reason} {findings[0].hint}".strip())

    checks = await asyncio.gather(*(check(spec) for spec in specs))
    wrong = []
    for spec, outcome in zip(specs, checks, strict=True):
        if isinstance(outcome, BackendError):
            if outcome.code != "bad_request":
                raise told(outcome) from outcome
            wrong.append({"panel": spec.title, "expr": spec.expr, "problem": outcome.message})
    if wrong:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "; ".join(f"panel {item['panel']!r}: {item['problem']}" for item in wrong[:5]),
            hint="Try the expression with monitoring_query_metrics first.",
            details={"errors": wrong},
        )
    return [outcome for outcome in checks if isinstance(outcome, PanelCheck)]


def public_url(backends: Backends, path: str) -> str:
    """Where people open what Grafana calls by a path."""
    settings = backends.settings
    return (settings.grafana_public_url or settings.grafana_url).rstrip("/") + path


def _wanted(
    backends: Backends,
    title: str | None,
    panels: list[PanelSpec] | None,
    template: str | None,
    variables: dict[str, str] | None,
) -> tuple[str, list[PanelSpec]]:
    if (panels is None) == (template is None):
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            "exactly one of panels and template must be given",
            hint="panels=[{title, expr, unit}], or template='service_red' with variables={'service': ...}.",
        )
    if template is not None:
        made, specs = fill(template, variables or {}, backends.settings)
        return title or made, specs
    if variables:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "variables belong to a template", hint="Leave them out.")
    if title is None:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, "title: panels need one", hint="Give the dashboard a title.")
    titles = [panel.title for panel in panels or []]
    twice = sorted({name for name in titles if titles.count(name) > 1})
    if twice:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, f"panels: more than one is called {', '.join(twice)}", hint="Tell them apart."
        )
    return title, list(panels or [])


def require_ours_to_change(
    uid: str, meta: dict[str, Any], before: dict[str, Any] | None, expected_version: int | None
) -> None:
    if meta.get("provisioned"):
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"the dashboard {uid} is provisioned from files: Grafana does not let it be changed",
            hint="Change its file, or use another uid.",
        )
    actual = (before or {}).get("version")
    if expected_version is not None and expected_version != (actual or 0):
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"the dashboard {uid} is at version {actual or 0}, not {expected_version}",
            hint="Read it again and decide anew; 0 means that it must not exist yet.",
            details={"version": actual or 0},
        )


async def require_no_namesake(grafana: Grafana, title: str, uid: str) -> None:
    """A second dashboard of the same title is the clone nobody wants."""
    with asking():
        hits = await grafana.search(title)
    for hit in hits:
        if str(hit.get("title", "")).strip().lower() == title.strip().lower() and hit.get("uid") != uid:
            raise ToolError(
                ErrorCode.CONFLICT,
                f"there is a dashboard {title!r} already, with the uid {hit.get('uid')}",
                hint=f"Give uid={hit.get('uid')!r} to update it, or another title for a new one.",
                did_you_mean=[str(hit.get("uid"))],
            )


def prometheus_of(datasources: list[dict[str, Any]]) -> str:
    found = [source for source in datasources if source.get("type") == "prometheus"]
    if not found:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED, "Grafana has no Prometheus data source", hint="Add one to Grafana first."
        )
    best = next((source for source in found if source.get("isDefault")), found[0])
    return str(best["uid"])


def _folder(folder: str, folders: list[dict[str, Any]]) -> str:
    if folder.strip().lower() in ("", "general"):
        return ""
    for item in folders:
        if folder == item.get("uid") or folder.strip().lower() == str(item.get("title", "")).lower():
            return str(item["uid"])
    titles = [str(item.get("title", "")) for item in folders]
    raise ToolError(
        ErrorCode.NOT_FOUND,
        f"Grafana has no folder {folder!r}",
        hint=f"Folders: {', '.join(['General', *titles][:20])}.",
        did_you_mean=near(folder, titles),
    )


def _plan(
    before: dict[str, Any] | None,
    after: dict[str, Any],
    folder_uid: str,
    folders: list[dict[str, Any]],
    checks: list[PanelCheck],
    reason: str,
    *,
    same_folder: bool,
) -> Plan:
    where = next((str(item["title"]) for item in folders if item.get("uid") == folder_uid), "General")
    verb = "Update" if before else "Create"
    warnings = [f"panel {check.title!r} shows nothing now: {check.note}" for check in checks if not check.series]
    if before and MADE_BY not in (before.get("tags") or []):
        count = len(before.get("panels") or [])
        warnings.append(f"it was not made by {MADE_BY}: its {count} panels are replaced, work of somebody's hands")
    if before and not same_folder:
        warnings.append(f"it moves to the folder {where}")
    return Plan(
        summary=f"{verb} the dashboard {after['title']!r} ({after['uid']}) in the folder {where} ({reason})",
        changes=changes_between(before, after),
        blast_radius="everybody who looks at it" if before else "",
        warnings=warnings,
        undo=_undo(before, reason) if same_folder else None,
    )


def _undo(before: dict[str, Any] | None, reason: str) -> Undo | None:
    """The call that makes a changed dashboard what it was; a version knows nothing of folders."""
    if before is None:
        return None
    arguments = {"uid": before["uid"], "restore_version": before.get("version"), "reason": f"undo: {reason}"[:500]}
    return Undo(tool="monitoring_patch_dashboard", arguments=arguments)


def _undo_note(before: dict[str, Any] | None) -> str:
    if before is None:
        return "To take it back, delete it in Grafana."
    return f"To take it back, restore version {before.get('version')} in Grafana's version history."
