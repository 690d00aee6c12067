"""Who may do what in the estate: the standard roles, the platform's, and those of the shop's teams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opsbus_sandbox.estate.cluster import NAMESPACES
from opsbus_sandbox.estate.workloads import new_object, put
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]

PLATFORM_USER = "system:serviceaccount:platform:opsbus"
ADMIN_USER = "lab-admin"
# The groups the platform impersonates for its three roles.
VIEWERS, OPERATORS, ADMINS = "opsbus:viewer", "opsbus:operator", "opsbus:admin"

_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_CORE_READABLE = [
    "configmaps", "endpoints", "events", "namespaces", "persistentvolumeclaims", "pods", "pods/log", "pods/status",
    "resourcequotas", "serviceaccounts", "services",
]  # fmt: skip
_WORKLOADS = [
    "daemonsets", "deployments", "deployments/scale", "replicasets", "replicasets/scale", "statefulsets",
    "statefulsets/scale",
]  # fmt: skip


def _rule(groups: list[str], resources: list[str], verbs: list[str], names: list[str] | None = None) -> Obj:
    rule: Obj = {"apiGroups": groups, "resources": resources, "verbs": verbs}
    return {**rule, "resourceNames": names} if names else rule


_VIEW = [
    _rule([""], _CORE_READABLE, _READ),
    _rule(["apps"], [*_WORKLOADS, "controllerrevisions", "deployments/status"], _READ),
    _rule(["autoscaling"], ["horizontalpodautoscalers"], _READ),
    _rule(["batch"], ["cronjobs", "jobs"], _READ),
    _rule(["events.k8s.io"], ["events"], _READ),
    _rule(["networking.k8s.io"], ["ingresses"], _READ),
    _rule(["policy"], ["poddisruptionbudgets"], _READ),
]
_CLUSTER_VIEW = [_rule([""], ["nodes", "namespaces"], _READ)]
_OPERATE = [
    _rule(["apps"], _WORKLOADS, ["patch", "update"]),
    _rule([""], ["pods"], ["delete", "deletecollection"]),
    _rule([""], ["pods/eviction"], ["create"]),
]
_EDIT = [
    _rule([""], ["configmaps", "persistentvolumeclaims", "pods", "secrets", "serviceaccounts", "services"],
          [*_READ, *_WRITE]),
    _rule([""], ["pods/eviction"], ["create"]),
    _rule([""], ["endpoints"], _WRITE),
    _rule(["apps"], _WORKLOADS, _WRITE),
    _rule(["autoscaling"], ["horizontalpodautoscalers"], _WRITE),
    _rule(["batch"], ["cronjobs", "jobs"], _WRITE),
    _rule(["networking.k8s.io"], ["ingresses"], _WRITE),
    _rule(["policy"], ["poddisruptionbudgets"], _WRITE),
]  # fmt: skip
_ADMIN = [_rule(["rbac.authorization.k8s.io"], ["roles", "rolebindings"], [*_READ, *_WRITE])]
_REVIEWS = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"]

_CLUSTER_ROLES: dict[str, list[Obj]] = {
    "cluster-admin": [_rule(["*"], ["*"], ["*"]), {"nonResourceURLs": ["*"], "verbs": ["*"]}],
    "admin": [*_VIEW, *_EDIT, *_ADMIN],
    "edit": [*_VIEW, *_EDIT],
    "view": _VIEW,
    "system:basic-user": [
        _rule(["authorization.k8s.io"], _REVIEWS, ["create"]),
        _rule(["authentication.k8s.io"], ["selfsubjectreviews"], ["create"]),
    ],
    "system:discovery": [
        {"nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*", "/version", "/version/",
                             "/healthz", "/livez", "/readyz"], "verbs": ["get"]},
    ],
    "system:public-info-viewer": [
        {"nonResourceURLs": ["/healthz", "/livez", "/readyz", "/version", "/version/"], "verbs": ["get"]},
    ],
    "opsbus-viewer": [*_VIEW, *_CLUSTER_VIEW],
    "opsbus-operator": [*_VIEW, *_CLUSTER_VIEW, *_OPERATE],
    "opsbus-admin": [*_VIEW, *_CLUSTER_VIEW, *_EDIT, _rule([""], ["nodes"], ["patch", "update"])],
    # The platform itself reads, and otherwise acts only as the person who asked it to.
    "opsbus-platform": [
        *_VIEW,
        *_CLUSTER_VIEW,
        _rule([""], ["users", "groups"], ["impersonate"]),
        _rule(["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
    ],
}  # fmt: skip

_CLUSTER_BINDINGS: dict[str, tuple[str, Obj]] = {
    "cluster-admin": ("cluster-admin", {"kind": "Group", "name": "system:masters"}),
    "system:basic-user": ("system:basic-user", {"kind": "Group", "name": "system:authenticated"}),
    "system:discovery": ("system:discovery", {"kind": "Group", "name": "system:authenticated"}),
    "system:public-info-viewer": ("system:public-info-viewer", {"kind": "Group", "name": "system:unauthenticated"}),
    "opsbus-viewer": ("opsbus-viewer", {"kind": "Group", "name": VIEWERS}),
    "opsbus-operator": ("opsbus-operator", {"kind": "Group", "name": OPERATORS}),
    "opsbus-admin": ("opsbus-admin", {"kind": "Group", "name": ADMINS}),
    "opsbus-platform": ("opsbus-platform", {"kind": "ServiceAccount", "name": "opsbus", "namespace": "platform"}),
}

# (namespace, binding, cluster role, group): each team edits what is its own.
_TEAM_BINDINGS = (
    ("shop", "team-checkout-edit", "edit", "team-checkout"),
    ("shop", "team-storefront-edit", "edit", "team-storefront"),
    ("shop-staging", "team-checkout-admin", "admin", "team-checkout"),
    ("shop-staging", "team-storefront-admin", "admin", "team-storefront"),
    ("payments", "team-payments-admin", "admin", "team-payments"),
    ("payments", "team-checkout-view", "view", "team-checkout"),
)


def create_standard_access(store: ObjectStore) -> None:
    """The roles and bindings that an API server makes for itself."""
    _create_cluster_access(store, lambda name: not name.startswith("opsbus-"))


def create_access(store: ObjectStore) -> None:
    """Roles, bindings and service accounts."""
    for namespace in NAMESPACES:
        put(store, "serviceaccounts", new_object("serviceaccounts", namespace, "default"))
    put(store, "serviceaccounts", new_object("serviceaccounts", "platform", "opsbus"))
    _create_cluster_access(store, lambda _: True)
    for namespace, name, role, group in _TEAM_BINDINGS:
        binding = {"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "Group", "name": group}]}
        put(store, "rolebindings", new_object("rolebindings", namespace, name, **binding))
    # One namespaced role, so that both kinds are met: whoever is on call may read payments' logs and no more.
    rules = [_rule([""], ["pods", "pods/log"], _READ)]
    put(store, "roles", new_object("roles", "payments", "log-reader", rules=rules))
    parts = {"roleRef": {"kind": "Role", "name": "log-reader"}, "subjects": [{"kind": "Group", "name": "on-call"}]}
    put(store, "rolebindings", new_object("rolebindings", "payments", "on-call-log-reader", **parts))


def _create_cluster_access(store: ObjectStore, wanted: Callable[[str], bool]) -> None:
    for name, rules in _CLUSTER_ROLES.items():
        if wanted(name):
            put(store, "clusterroles", new_object("clusterroles", "", name, rules=rules))
    for name, (role, subject) in _CLUSTER_BINDINGS.items():
        if wanted(name):
            parts = {"roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [dict(subject)]}
            put(store, "clusterrolebindings", new_object("clusterrolebindings", "", name, **parts))
