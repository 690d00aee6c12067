"""The settings of the k8s worker: which clusters, as whom, and the bounds on every read.

Reading a kubeconfig is in kubeconfig.py.
"""

from typing import Annotated

from pydantic import Field

from opsbus import Settings

Seconds = Annotated[float, Field(gt=0, le=120)]


class K8sSettings(Settings):
    """Environment ``OPSBUS_K8S_*`` and the section ``k8s`` of the YAML file."""

    kubeconfig: str = Field(
        default="",
        description="Paths of kubeconfig files, separated as in KUBECONFIG. Empty: KUBECONFIG, then the service "
        "account of the pod, then ~/.kube/config.",
    )
    contexts: list[str] = Field(default_factory=list, description="Contexts the tools may use. Empty: all of them.")
    default_context: str = Field(default="", description="Empty: the kubeconfig's current context.")
    namespaces: list[str] = Field(
        default_factory=list, description="Namespaces the tools may touch, as globs (shop-*). Empty: all of them."
    )
    impersonate: bool = Field(
        default=True,
        description="Act in the cluster as the caller (Impersonate-User, Impersonate-Group): its RBAC and its audit "
        "log see the person. For calls the worker's own account then needs impersonate on users and groups alone.",
    )
    impersonate_user_prefix: str = Field(default="", description="Put before the caller's subject.")
    impersonate_group_prefix: str = Field(default="opsbus:", description="Put before each of the caller's roles.")
    request_timeout_s: Seconds = Field(default=10.0, description="One request to an API server.")
    probe_timeout_s: Seconds = Field(default=3.0, description="The reachability check of one cluster.")
    page_size: int = Field(default=500, ge=1, le=5_000, description="Objects per request of a list.")
    scan_max: int = Field(default=5_000, ge=1, le=100_000, description="Objects one call looks at, at most.")
    response_bytes_max: int = Field(default=32_000_000, ge=100_000, description="One answer of an API server, at most.")
    replicas_max: int = Field(default=200, ge=1, le=10_000, description="k8s_scale_deployment goes no higher.")
    log_pods_max: int = Field(default=10, ge=1, le=50, description="Pods whose logs one call reads.")
    log_scan_bytes_max: int = Field(default=8_000_000, ge=10_000, description="Log bytes one call reads per container.")
    watch: bool = Field(
        default=True,
        description="Watch workloads, pods and nodes of every cluster, as the worker's own account (list and watch), "
        "and tell what changes as events.",
    )
    watch_namespaces: list[str] = Field(
        default_factory=list,
        description="Namespaces watched, as globs. Empty: those the tools may touch. Up to 20 plain names are watched "
        "one by one, for which rights in them are enough; nodes are then left out.",
    )
    watch_stale_s: float = Field(
        default=150.0,
        ge=1,
        le=3_600,
        description="A watch without an event or bookmark for so long is given up, and the list read again. An API "
        "server sends a bookmark each minute.",
    )
    watch_objects_max: int = Field(default=50_000, ge=100, le=1_000_000, description="Objects of one kind looked at.")
    watch_events_per_s: float = Field(default=50.0, ge=1, le=1_000, description="Events told, at most, beyond a burst.")
