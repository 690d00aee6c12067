"""k8s_list_clusters."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from opsbus import Context
from opsbus_k8s_ops.arguments import Limit, PageCursor
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.models import ClusterPage
from opsbus_k8s_ops.paging import fit_page, query_digest


async def list_clusters(
    ctx: Context[Clusters],
    problem_only: Annotated[bool, Field(description="Only clusters that do not answer.")] = False,
    limit: Limit = 50,
    cursor: PageCursor = None,
) -> ClusterPage:
    """The clusters there are: name, server version, and whether each answers now; those that do not come first.

    Give a name as cluster to any other k8s tool; without one they use the default. A cluster that is slow or down is
    told so after a few seconds and holds up none of the others. Example: no arguments.
    """
    infos = await ctx.state.probe()
    rows = [
        ((int(info.reachable), "" if info.default else "-", info.name), info)
        for info in infos
        if not (problem_only and info.reachable)
    ]
    return fit_page(
        ClusterPage,
        rows,
        limit=limit,
        total=len(rows),
        cursor=cursor,
        digest=query_digest(p=problem_only),
        extra={"reachable": sum(info.reachable for info in infos), "default": ctx.state.default},
        warnings=[],
        source="kubernetes:contexts",
        as_of=datetime.now(UTC),
    )
