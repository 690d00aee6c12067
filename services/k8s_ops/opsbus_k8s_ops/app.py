"""The k8s worker, wired: settings, clusters, tools. What the tools do is in tool_*.py and overview.py."""

import asyncio
from collections.abc import AsyncIterator

from opsbus import Worker, tasks
from opsbus_k8s_ops.beside import reading
from opsbus_k8s_ops.cluster import Clusters
from opsbus_k8s_ops.overview import clusters, complete_namespace, triage_namespace
from opsbus_k8s_ops.settings import K8sSettings
from opsbus_k8s_ops.tool_can_i import can_i
from opsbus_k8s_ops.tool_clusters import list_clusters
from opsbus_k8s_ops.tool_cordon import cordon_node
from opsbus_k8s_ops.tool_deployments import get_deployments
from opsbus_k8s_ops.tool_diagnose import diagnose_workload
from opsbus_k8s_ops.tool_drain import drain_node
from opsbus_k8s_ops.tool_events import get_events
from opsbus_k8s_ops.tool_logs import get_pod_logs
from opsbus_k8s_ops.tool_pods import get_pods
from opsbus_k8s_ops.tool_resource import get_resource
from opsbus_k8s_ops.tool_restart import restart_deployment
from opsbus_k8s_ops.tool_rollback import rollback_deployment
from opsbus_k8s_ops.tool_rollout_history import rollout_history
from opsbus_k8s_ops.tool_rollout_status import rollout_status
from opsbus_k8s_ops.tool_scale import scale_deployment
from opsbus_k8s_ops.watching import CLUSTERS_URI, watch_clusters


async def open_clusters(made: Worker, settings: K8sSettings) -> AsyncIterator[Clusters]:
    """The clusters, and their watches beside the calls."""
    async with Clusters(settings) as reachable, reading(settings, reachable.beside):
        if settings.shadow or not settings.watch:
            yield reachable
            return
        watching = asyncio.create_task(watch_clusters(made, settings, reachable))
        try:
            yield reachable
        finally:
            await tasks.end(watching)


def build() -> Worker:
    """A worker with everything it offers; several can run in one process."""
    made = Worker(
        "k8s",
        version="0.1.0",
        title="Kubernetes",
        description="Kubernetes clusters: what runs, what is wrong with it, its logs, and careful changes.",
        settings=K8sSettings,
    )

    made.lifespan(lambda settings: open_clusters(made, settings))
    made.tool(permission="k8s:get", read_only=True, title="Clusters")(list_clusters)
    made.tool(permission="k8s:get", read_only=True, title="Pods")(get_pods)
    made.tool(permission="k8s:get", read_only=True, title="Deployments")(get_deployments)
    made.tool(permission="k8s:get", read_only=True, title="Diagnose a workload", timeout_s=60)(diagnose_workload)
    made.tool(permission="k8s:get", read_only=True, title="Events")(get_events)
    made.tool(permission="k8s:get", read_only=True, title="Any object")(get_resource)
    made.tool(permission="k8s:get", read_only=True, title="Rollout status", timeout_s=150)(rollout_status)
    made.tool(permission="k8s:get", read_only=True, title="Rollout history")(rollout_history)
    made.tool(permission="k8s:get", read_only=True, title="May I?")(can_i)
    made.tool(permission="k8s:logs", read_only=True, title="Pod logs", timeout_s=60)(get_pod_logs)
    made.tool(permission="k8s:scale", title="Scale a deployment", destructive=True, timeout_s=150, plans=True)(
        scale_deployment
    )
    made.tool(permission="k8s:restart", title="Restart a deployment", destructive=True, timeout_s=150, plans=True)(
        restart_deployment
    )
    made.tool(permission="k8s:rollback", title="Roll a deployment back", destructive=True, timeout_s=150, plans=True)(
        rollback_deployment
    )
    made.tool(permission="k8s:cordon", title="Cordon a node", destructive=True, plans=True)(cordon_node)
    made.tool(
        permission="k8s:drain",
        title="Drain a node",
        destructive=True,
        timeout_s=600,
        budget_bytes=48_000,
        plans=True,
    )(drain_node)
    made.resource(
        CLUSTERS_URI,
        name="clusters",
        permission="k8s:get",
        subscribable=True,
        mime_type="application/json",
        title="Clusters",
    )(clusters)
    made.prompt(permission="k8s:get", title="Triage a namespace")(triage_namespace).completion("namespace")(
        complete_namespace
    )
    return made


worker = build()
service = worker.service(name="k8s-ops", order=30, needs=("nats",))
