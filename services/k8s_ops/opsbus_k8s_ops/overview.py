"""The resource enterprise://k8s/clusters and the prompt k8s_triage_namespace."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from opsbus import Context, ErrorCode, ToolError
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.models import ClusterList
from opsbus_k8s_ops.tool_deployments import get_deployments
from opsbus_k8s_ops.tool_pods import get_pods

COMPLETIONS_MAX = 100


async def clusters(ctx: Context[Clusters]) -> ClusterList:
    """The clusters this worker reaches: context name, version, and whether it answers."""
    return ClusterList(clusters=await ctx.state.probe(), as_of=datetime.now(UTC))


async def triage_namespace(
    ctx: Context[Clusters], namespace: Annotated[str, Field(description="The namespace that is in trouble.")]
) -> str:
    """Find out what is wrong in a namespace: what stands there now, and the steps to take."""
    deployments = await get_deployments(ctx, namespaces=[namespace], kinds=["Deployment", "StatefulSet", "DaemonSet"])
    pods = await get_pods(ctx, namespaces=[namespace], problem_only=True, limit=20)
    return f"""Something may be wrong in the Kubernetes namespace {namespace!r}. Find out what, and what to do.

What stands there, as of {pods.as_of:%Y-%m-%dT%H:%M:%SZ}:

{deployments.to_text()}

Pods with trouble:

{pods.to_text()}

Go on like this:
1. For each unhealthy workload call k8s_diagnose_workload: findings, events, the end of the log of the run that died,
   and what the latest rollouts changed. k8s_get_pod_logs with mode=patterns says more about what its pods say.
2. Compare what changed: k8s_rollout_history says it of each revision; k8s_get_deployments with fields=["containers"]
   shows the same workload in another namespace, if there is a staging one.
3. Look at alerts and metrics (monitoring_get_alerts, monitoring_query_metrics) for when it began and whom it reaches.
4. Say the cause, the evidence for it, and what is still a guess. Propose the smallest change that helps, and its risk.
   Change nothing without being asked: k8s_rollback_deployment, k8s_scale_deployment and k8s_restart_deployment first
   show a plan with dry_run=true.
"""


async def complete_namespace(ctx: Context[Clusters], value: str, resolved: dict[str, str]) -> list[str]:
    """Namespaces that begin with what was typed, then those that contain it."""
    try:
        names = await ctx.state.namespaces(ctx)
    except ToolError as error:
        if error.code is ErrorCode.FORBIDDEN:
            return []
        raise
    starts = [name for name in names if name.startswith(value)]
    return (starts + [name for name in names if value in name and name not in starts])[:COMPLETIONS_MAX]
