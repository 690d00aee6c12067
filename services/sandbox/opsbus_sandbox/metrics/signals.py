"""From a snapshot to samples: what kube-state-metrics, cAdvisor, node-exporter and the services would give."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator

from opsbus_sandbox.metrics.estate import Pod, Snapshot
from opsbus_sandbox.metrics.traffic import BUCKETS_S, load, memory_share, share_below, wobble
from opsbus_sandbox.promql.aggregate import format_value
from opsbus_sandbox.promql.database import Labels

Reading = tuple[str, Labels, float]

METADATA: dict[str, tuple[str, str]] = {
    "up": ("gauge", "Whether the target answered its last scrape."),
    "kube_pod_status_phase": ("gauge", "The pods current phase."),
    "kube_pod_status_ready": ("gauge", "Describes whether the pod is ready to serve requests."),
    "kube_pod_container_status_restarts_total": ("counter", "The number of container restarts per container."),
    "kube_pod_container_status_waiting_reason": ("gauge", "Describes the reason the container is in waiting state."),
    "kube_pod_container_status_last_terminated_reason": ("gauge", "The last reason the container was terminated."),
    "kube_pod_container_resource_limits": ("gauge", "The number of requested limit resource by a container."),
    "kube_pod_container_resource_requests": ("gauge", "The number of requested request resource by a container."),
    "kube_deployment_spec_replicas": ("gauge", "Number of desired pods for a deployment."),
    "kube_deployment_status_replicas_available": ("gauge", "Number of available replicas per deployment."),
    "kube_deployment_status_replicas_updated": ("gauge", "Number of updated replicas per deployment."),
    "kube_node_status_condition": ("gauge", "The condition of a cluster node."),
    "container_memory_working_set_bytes": ("gauge", "Current working set in bytes."),
    "container_cpu_usage_seconds_total": ("counter", "Cumulative cpu time consumed in seconds."),
    "node_cpu_seconds_total": ("counter", "Seconds the CPUs spent in each mode."),
    "node_memory_MemTotal_bytes": ("gauge", "Memory information field MemTotal_bytes."),
    "node_memory_MemAvailable_bytes": ("gauge", "Memory information field MemAvailable_bytes."),
    "node_filesystem_size_bytes": ("gauge", "Filesystem size in bytes."),
    "node_filesystem_avail_bytes": ("gauge", "Filesystem space available to non-root users in bytes."),
    "http_requests_total": ("counter", "Requests by service, method and status code."),
    "http_request_duration_seconds": ("histogram", "Duration of requests in seconds."),
}
"""Type and help by metric."""

_NODE_CPUS, _NODE_MEMORY, _NODE_DISK = 8, 32 * 1024.0**3, 200e9


class Signals:
    """Writes samples moment by moment; keeps the counters between moments."""

    def __init__(self, trouble_since: float) -> None:
        self.trouble_since = trouble_since
        self._counters: dict[tuple[str, tuple[tuple[str, str], ...]], float] = defaultdict(float)

    def sample(self, state: Snapshot, when: float, elapsed_s: float, *, history: bool = False) -> Iterator[Reading]:
        """All readings at ``when``; ``elapsed_s`` since the moment before. In history the trouble is not yet there."""
        calm = history and when < self.trouble_since
        for pod in state.pods:
            yield from self._pod(pod, when, elapsed_s, calm=calm)
        yield from _workloads(state, calm=calm)
        yield from self._nodes(state, when, elapsed_s)
        yield from self._services(state, when, elapsed_s, calm=calm)

    def _count(self, name: str, labels: Labels, add: float) -> Reading:
        key = (name, tuple(labels.items()))
        self._counters[key] += add
        return name, labels, self._counters[key]

    def _pod(self, pod: Pod, when: float, elapsed_s: float, *, calm: bool) -> Iterator[Reading]:
        base = {"namespace": pod.namespace, "pod": pod.name}
        unwell = not calm
        phase = pod.phase if unwell else "Running"
        for name in ("Pending", "Running", "Succeeded", "Failed", "Unknown"):
            yield "kube_pod_status_phase", {**base, "phase": name}, float(name == phase)
        yield "kube_pod_status_ready", {**base, "condition": "true"}, float(pod.ready or calm)
        inside = {**base, "container": pod.app}
        yield "kube_pod_container_status_restarts_total", inside, self._restarts(pod, when, calm=calm)
        if unwell and pod.waiting:
            yield "kube_pod_container_status_waiting_reason", {**inside, "reason": pod.waiting}, 1.0
        if unwell and pod.terminated:
            yield "kube_pod_container_status_last_terminated_reason", {**inside, "reason": pod.terminated}, 1.0
        for kind, memory, cpu in (
            ("limits", pod.memory_limit, pod.cpu_limit),
            ("requests", pod.memory_request, pod.cpu_request),
        ):
            name = f"kube_pod_container_resource_{kind}"
            yield name, {**inside, "node": pod.node, "resource": "memory", "unit": "byte"}, memory
            yield name, {**inside, "node": pod.node, "resource": "cpu", "unit": "core"}, cpu
        if phase != "Running" or not pod.node:
            return
        share = memory_share(pod.app, pod.namespace, when, self.trouble_since, pod.name)
        yield "container_memory_working_set_bytes", {**inside, "node": pod.node}, share * (pod.memory_limit or 256e6)
        cores = (pod.cpu_limit or 0.5) * 0.35 * wobble(pod.name, when, 0.4)
        yield self._count(
            "container_cpu_usage_seconds_total", {**inside, "node": pod.node}, max(0.0, cores) * elapsed_s
        )

    def _restarts(self, pod: Pod, when: float, *, calm: bool) -> float:
        if calm or not pod.restarts:
            return 0.0
        onset = (when - self.trouble_since) / 1200
        return (
            float(min(pod.restarts, math.floor(pod.restarts * max(0.0, onset)))) if onset < 1 else float(pod.restarts)
        )

    def _nodes(self, state: Snapshot, when: float, elapsed_s: float) -> Iterator[Reading]:
        for node, ready in state.nodes.items():
            for status, value in (("true", ready), ("false", not ready), ("unknown", False)):
                yield "kube_node_status_condition", {"node": node, "condition": "Ready", "status": status}, float(value)
            labels = {"instance": f"{node}:9100", "node": node}
            busy = min(0.95, 0.42 * wobble(node, when, 0.3))
            for mode, share in (("user", busy * 0.75), ("system", busy * 0.25), ("idle", 1 - busy)):
                seconds = share * _NODE_CPUS * elapsed_s
                yield self._count("node_cpu_seconds_total", {**labels, "mode": mode}, seconds)
            yield "node_memory_MemTotal_bytes", labels, _NODE_MEMORY
            yield "node_memory_MemAvailable_bytes", labels, _NODE_MEMORY * (1 - 0.55 * wobble(node, when, 0.1))
            disk = {**labels, "mountpoint": "/", "device": "/dev/nvme0n1p1", "fstype": "ext4"}
            grown = 0.58 + (when - self.trouble_since) / (90 * 86_400)
            yield "node_filesystem_size_bytes", disk, _NODE_DISK
            yield "node_filesystem_avail_bytes", disk, _NODE_DISK * max(0.02, 1 - grown)

    def _services(self, state: Snapshot, when: float, elapsed_s: float, *, calm: bool) -> Iterator[Reading]:
        unwell = state.unwell()
        for work in state.workloads:
            sick = min(work.wanted, unwell[work.namespace, work.name])
            share = 1.0 if calm or not work.wanted else 1 - sick / work.wanted
            traffic = load(work.name, work.namespace, when, self.trouble_since, share if work.wanted else 0.0)
            if traffic is None:
                continue
            base = {"namespace": work.namespace, "service": work.name, "job": work.name}
            requests = traffic.requests_per_s * elapsed_s
            method = "POST" if work.name in ("checkout", "payments-api", "ledger") else "GET"
            for code, part in (("200", 1 - traffic.errors), ("503", traffic.errors)):
                yield self._count("http_requests_total", {**base, "method": method, "code": code}, requests * part)
            for bound in BUCKETS_S:
                labels = {**base, "le": format_value(bound)}
                yield self._count(
                    "http_request_duration_seconds_bucket", labels, requests * share_below(bound, traffic)
                )
            yield self._count("http_request_duration_seconds_bucket", {**base, "le": "+Inf"}, requests)
            mean = traffic.latency_s * math.exp(traffic.spread**2 / 2)
            yield self._count("http_request_duration_seconds_sum", base, requests * mean)
            yield self._count("http_request_duration_seconds_count", base, requests)
            yield (
                "up",
                {"job": work.name, "namespace": work.namespace, "instance": f"{work.name}:8080"},
                float(share > 0),
            )


def _workloads(state: Snapshot, *, calm: bool) -> Iterator[Reading]:
    for work in state.workloads:
        labels = {"namespace": work.namespace, "deployment": work.name}
        yield "kube_deployment_spec_replicas", labels, float(work.wanted)
        yield "kube_deployment_status_replicas_available", labels, float(work.wanted if calm else work.ready)
        yield "kube_deployment_status_replicas_updated", labels, float(work.wanted if calm else work.updated)
        yield "kube_deployment_labels", {**labels, "label_team": work.team, "label_app": work.name}, 1.0
