"""The resource types the emulated cluster serves: the one table that discovery, routing and the store read."""

from __future__ import annotations

from dataclasses import dataclass, field

OBJECT_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
READ_VERBS = ("get", "list", "watch")


@dataclass(frozen=True)
class ResourceType:
    """One kind of object. `plural` is unique across groups here, so it alone names the storage."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    in_all: bool = False
    subresources: tuple[str, ...] = ()
    has_generation: bool = False
    returns_deleted: bool = False
    verbs: tuple[str, ...] = field(default=OBJECT_VERBS)

    @property
    def api_version(self) -> str:
        """`v1` or `apps/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """`pods` or `deployments.apps`, as the server writes a resource in an error message."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """`Pod` or `Deployment.apps`, as the server writes a kind in a validation error."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def singular(self) -> str:
        """The lower-case kind."""
        return self.kind.lower()


_CORE = (
    ResourceType("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    ResourceType("", "v1", "endpoints", "Endpoints", short_names=("ep",)),
    ResourceType("", "v1", "events", "Event", short_names=("ev",)),
    ResourceType(
        "", "v1", "namespaces", "Namespace", namespaced=False, short_names=("ns",),
        subresources=("finalize", "status"), returns_deleted=True,
        verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    ),
    ResourceType("", "v1", "nodes", "Node", namespaced=False, short_names=("no",), subresources=("status",)),
    ResourceType(
        "", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", short_names=("pvc",), subresources=("status",),
        returns_deleted=True,
    ),
    ResourceType(
        "", "v1", "pods", "Pod", short_names=("po",), in_all=True, subresources=("eviction", "log", "status"),
        has_generation=True, returns_deleted=True,
    ),
    ResourceType(
        "", "v1", "resourcequotas", "ResourceQuota", short_names=("quota",), subresources=("status",),
        returns_deleted=True,
    ),
    ResourceType("", "v1", "secrets", "Secret"),
    ResourceType(
        "", "v1", "serviceaccounts", "ServiceAccount", short_names=("sa",), subresources=("token",),
        returns_deleted=True,
    ),
    ResourceType(
        "", "v1", "services", "Service", short_names=("svc",), in_all=True, subresources=("status",),
        returns_deleted=True,
    ),
)  # fmt: skip

_GROUPS = (
    ResourceType("apps", "v1", "controllerrevisions", "ControllerRevision", verbs=("delete", *READ_VERBS)),
    ResourceType(
        "apps", "v1", "daemonsets", "DaemonSet", short_names=("ds",), in_all=True, subresources=("status",),
        has_generation=True,
    ),
    ResourceType(
        "apps", "v1", "deployments", "Deployment", short_names=("deploy",), in_all=True,
        subresources=("scale", "status"), has_generation=True,
    ),
    ResourceType(
        "apps", "v1", "replicasets", "ReplicaSet", short_names=("rs",), in_all=True,
        subresources=("scale", "status"), has_generation=True,
    ),
    ResourceType(
        "apps", "v1", "statefulsets", "StatefulSet", short_names=("sts",), in_all=True,
        subresources=("scale", "status"), has_generation=True,
    ),
    ResourceType(
        "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", short_names=("hpa",),
        in_all=True, subresources=("status",),
    ),
    ResourceType(
        "batch", "v1", "cronjobs", "CronJob", short_names=("cj",), in_all=True, subresources=("status",),
        has_generation=True,
    ),
    ResourceType("batch", "v1", "jobs", "Job", in_all=True, subresources=("status",), has_generation=True),
    ResourceType(
        "networking.k8s.io", "v1", "ingresses", "Ingress", short_names=("ing",), subresources=("status",),
        has_generation=True,
    ),
    ResourceType(
        "policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", short_names=("pdb",),
        subresources=("status",), has_generation=True,
    ),
    ResourceType("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    ResourceType("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False),
    ResourceType("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    ResourceType("rbac.authorization.k8s.io", "v1", "roles", "Role"),
)  # fmt: skip

STORED: tuple[ResourceType, ...] = _CORE + _GROUPS
BY_PLURAL: dict[str, ResourceType] = {kind.plural: kind for kind in STORED}
BY_KIND: dict[str, ResourceType] = {kind.kind: kind for kind in STORED}

# The same Event objects are served a second time, in another shape, by this group.
EVENTS_V1 = ResourceType("events.k8s.io", "v1", "events", "Event", short_names=("ev",))

# So are autoscalers, for those who still speak the first version.
AUTOSCALERS_V1 = ResourceType(
    "autoscaling", "v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", short_names=("hpa",), in_all=True
)

_REVIEW = ("create",)
REVIEWS: tuple[ResourceType, ...] = (
    ResourceType("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False, verbs=_REVIEW),
    ResourceType("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=_REVIEW),
    ResourceType(
        "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False, verbs=_REVIEW
    ),
    ResourceType(
        "authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", False, verbs=_REVIEW
    ),
    ResourceType("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False, verbs=_REVIEW),
)

SERVED: dict[tuple[str, str, str], ResourceType] = {
    (kind.group, kind.version, kind.plural): kind for kind in (*STORED, EVENTS_V1, AUTOSCALERS_V1, *REVIEWS)
}
