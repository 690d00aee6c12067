"""The resource enterprise://monitoring/dashboards."""

from datetime import UTC, datetime

from pydantic import BaseModel, Field

from opsbus import Context
from opsbus_monitoring.backends import Backends
from opsbus_monitoring.faults import asking

DASHBOARDS_URI = "enterprise://monitoring/dashboards"
DASHBOARDS_MAX = 500


class DashboardInfo(BaseModel):
    """One dashboard."""

    uid: str
    title: str
    folder: str = "General"
    url: str
    tags: list[str] = Field(default_factory=list)


class DashboardIndex(BaseModel):
    """What is at the URI."""

    dashboards: list[DashboardInfo]
    truncated: bool = Field(description=f"There may be more than {DASHBOARDS_MAX}.")
    as_of: datetime


async def dashboards(ctx: Context[Backends]) -> DashboardIndex:
    """Grafana's dashboards: uid, title, folder, address and tags."""
    settings = ctx.state.settings
    base = (settings.grafana_public_url or settings.grafana_url).rstrip("/")
    with asking():
        hits = await ctx.state.grafana.search("", DASHBOARDS_MAX)
    found = [
        DashboardInfo(
            uid=str(hit.get("uid", "")),
            title=str(hit.get("title", "")),
            folder=str(hit.get("folderTitle") or "General"),
            url=base + str(hit.get("url", "")),
            tags=[str(tag) for tag in hit.get("tags") or []],
        )
        for hit in hits
    ]
    return DashboardIndex(dashboards=found, truncated=len(hits) >= DASHBOARDS_MAX, as_of=datetime.now(UTC))
