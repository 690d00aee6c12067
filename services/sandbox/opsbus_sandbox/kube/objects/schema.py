"""The Go types of the fields people write, for decoding: wrong types are refused, unknown fields noticed.

Fields marked `ANY` are taken as they come. Kinds that are not here are not checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Struct:
    """A Go struct: its name and its fields."""

    name: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class ListOf:
    """A list of one type."""

    of: Any


ANY = "any"
INT, INT64, STR, BOOL, QUANTITY, INT_OR_STR = "int32", "int64", "string", "bool", "quantity", "intstr"
STRINGS = "map[string]string"
QUANTITIES = "map[string]quantity"
BYTES = "map[string][]byte"


def _any(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, ANY)


OBJECT_META = Struct(
    "ObjectMeta",
    {
        "name": STR, "generateName": STR, "namespace": STR, "labels": STRINGS, "annotations": STRINGS, "uid": STR,
        "resourceVersion": STR, "generation": INT64, "creationTimestamp": ANY, "deletionTimestamp": ANY,
        "deletionGracePeriodSeconds": INT64, "finalizers": ListOf(STR), "selfLink": STR,
        **_any("ownerReferences", "managedFields"),
    },
)  # fmt: skip
_PROBE = Struct(
    "Probe",
    {
        "initialDelaySeconds": INT, "timeoutSeconds": INT, "periodSeconds": INT, "successThreshold": INT,
        "failureThreshold": INT, "terminationGracePeriodSeconds": INT64,
        **_any("exec", "httpGet", "tcpSocket", "grpc"),
    },
)  # fmt: skip
_CONTAINER = Struct(
    "Container",
    {
        "name": STR, "image": STR, "command": ListOf(STR), "args": ListOf(STR), "workingDir": STR,
        "ports": ListOf(
            Struct("ContainerPort", {
                "name": STR, "containerPort": INT, "hostPort": INT, "protocol": STR, "hostIP": STR,
            })
        ),
        "env": ListOf(Struct("EnvVar", {"name": STR, "value": STR, "valueFrom": ANY})),
        "resources": Struct("ResourceRequirements", {"limits": QUANTITIES, "requests": QUANTITIES, "claims": ANY}),
        "volumeMounts": ListOf(
            Struct("VolumeMount", {
                "name": STR, "mountPath": STR, "readOnly": BOOL, "subPath": STR, "subPathExpr": STR,
                "mountPropagation": STR, "recursiveReadOnly": STR,
            })
        ),
        "livenessProbe": _PROBE, "readinessProbe": _PROBE, "startupProbe": _PROBE,
        "terminationMessagePath": STR, "terminationMessagePolicy": STR, "imagePullPolicy": STR,
        "stdin": BOOL, "stdinOnce": BOOL, "tty": BOOL, "restartPolicy": STR,
        **_any("envFrom", "resizePolicy", "volumeDevices", "lifecycle", "securityContext", "restartPolicyRules"),
    },
)  # fmt: skip
POD_SPEC = Struct(
    "PodSpec",
    {
        "containers": ListOf(_CONTAINER), "initContainers": ListOf(_CONTAINER), "restartPolicy": STR,
        "terminationGracePeriodSeconds": INT64, "activeDeadlineSeconds": INT64, "dnsPolicy": STR,
        "nodeSelector": STRINGS, "serviceAccountName": STR, "serviceAccount": STR, "nodeName": STR,
        "automountServiceAccountToken": BOOL, "hostNetwork": BOOL, "hostPID": BOOL, "hostIPC": BOOL,
        "shareProcessNamespace": BOOL, "hostname": STR, "subdomain": STR, "schedulerName": STR,
        "priorityClassName": STR, "priority": INT, "enableServiceLinks": BOOL, "preemptionPolicy": STR,
        "setHostnameAsFQDN": BOOL, "runtimeClassName": STR, "hostUsers": BOOL, "hostnameOverride": STR,
        **_any(
            "volumes", "ephemeralContainers", "securityContext", "imagePullSecrets", "affinity", "tolerations",
            "hostAliases", "dnsConfig", "readinessGates", "overhead", "topologySpreadConstraints", "os",
            "schedulingGates", "resourceClaims", "resources", "workloadRef",
        ),
    },
)  # fmt: skip
_TEMPLATE = Struct("PodTemplateSpec", {"metadata": OBJECT_META, "spec": POD_SPEC})
_SELECTOR = Struct("LabelSelector", {"matchLabels": STRINGS, "matchExpressions": ANY})
_ROLLING = {"maxSurge": INT_OR_STR, "maxUnavailable": INT_OR_STR, "partition": INT}
_JOB_SPEC = {
    "parallelism": INT, "completions": INT, "activeDeadlineSeconds": INT64, "backoffLimit": INT,
    "backoffLimitPerIndex": INT, "maxFailedIndexes": INT, "selector": _SELECTOR, "manualSelector": BOOL,
    "template": _TEMPLATE, "ttlSecondsAfterFinished": INT, "completionMode": STR, "suspend": BOOL,
    "podReplacementPolicy": STR, "managedBy": STR, **_any("podFailurePolicy", "successPolicy"),
}  # fmt: skip

_SPECS: dict[str, Struct] = {
    "pods": POD_SPEC,
    "deployments": Struct("DeploymentSpec", {
        "replicas": INT, "selector": _SELECTOR, "template": _TEMPLATE, "minReadySeconds": INT,
        "strategy": Struct("DeploymentStrategy", {"type": STR, "rollingUpdate": Struct("RollingUpdateDeployment", {
            "maxSurge": INT_OR_STR, "maxUnavailable": INT_OR_STR})}),
        "revisionHistoryLimit": INT, "paused": BOOL, "progressDeadlineSeconds": INT,
    }),
    "replicasets": Struct("ReplicaSetSpec", {
        "replicas": INT, "minReadySeconds": INT, "selector": _SELECTOR, "template": _TEMPLATE,
    }),
    "statefulsets": Struct("StatefulSetSpec", {
        "replicas": INT, "selector": _SELECTOR, "template": _TEMPLATE, "serviceName": STR,
        "podManagementPolicy": STR, "revisionHistoryLimit": INT, "minReadySeconds": INT,
        "updateStrategy": Struct("StatefulSetUpdateStrategy", {"type": STR, "rollingUpdate": Struct(
            "RollingUpdateStatefulSetStrategy", _ROLLING)}),
        **_any("volumeClaimTemplates", "persistentVolumeClaimRetentionPolicy", "ordinals"),
    }),
    "daemonsets": Struct("DaemonSetSpec", {
        "selector": _SELECTOR, "template": _TEMPLATE, "minReadySeconds": INT, "revisionHistoryLimit": INT,
        "updateStrategy": Struct("DaemonSetUpdateStrategy", {"type": STR, "rollingUpdate": Struct(
            "RollingUpdateDaemonSet", _ROLLING)}),
    }),
    "jobs": Struct("JobSpec", _JOB_SPEC),
    "cronjobs": Struct("CronJobSpec", {
        "schedule": STR, "timeZone": STR, "startingDeadlineSeconds": INT64, "concurrencyPolicy": STR,
        "suspend": BOOL, "successfulJobsHistoryLimit": INT, "failedJobsHistoryLimit": INT,
        "jobTemplate": Struct("JobTemplateSpec", {"metadata": OBJECT_META, "spec": Struct("JobSpec", _JOB_SPEC)}),
    }),
    "services": Struct("ServiceSpec", {
        "ports": ListOf(Struct("ServicePort", {
            "name": STR, "protocol": STR, "appProtocol": STR, "port": INT, "targetPort": INT_OR_STR, "nodePort": INT,
        })),
        "selector": STRINGS, "clusterIP": STR, "clusterIPs": ListOf(STR), "type": STR, "externalIPs": ListOf(STR),
        "sessionAffinity": STR, "loadBalancerIP": STR, "externalName": STR, "externalTrafficPolicy": STR,
        "healthCheckNodePort": INT, "publishNotReadyAddresses": BOOL, "ipFamilies": ListOf(STR),
        "ipFamilyPolicy": STR, "allocateLoadBalancerNodePorts": BOOL, "loadBalancerClass": STR,
        "internalTrafficPolicy": STR, "trafficDistribution": STR,
        **_any("loadBalancerSourceRanges", "sessionAffinityConfig"),
    }),
    "horizontalpodautoscalers": Struct("HorizontalPodAutoscalerSpec", {
        "scaleTargetRef": Struct("CrossVersionObjectReference", {"kind": STR, "name": STR, "apiVersion": STR}),
        "minReplicas": INT, "maxReplicas": INT, **_any("metrics", "behavior"),
    }),
    "poddisruptionbudgets": Struct("PodDisruptionBudgetSpec", {
        "minAvailable": INT_OR_STR, "maxUnavailable": INT_OR_STR, "selector": _SELECTOR,
        "unhealthyPodEvictionPolicy": STR,
    }),
    "nodes": Struct("NodeSpec", {
        "podCIDR": STR, "podCIDRs": ListOf(STR), "providerID": STR, "unschedulable": BOOL,
        **_any("taints", "configSource", "externalID"),
    }),
    "namespaces": Struct("NamespaceSpec", {"finalizers": ListOf(STR)}),
    "resourcequotas": Struct("ResourceQuotaSpec", {
        "hard": QUANTITIES, "scopes": ListOf(STR), "scopeSelector": ANY,
    }),
}  # fmt: skip

_TOP = {"apiVersion": STR, "kind": STR, "metadata": OBJECT_META, "status": ANY}
_WITHOUT_SPEC: dict[str, dict[str, Any]] = {
    "configmaps": {"data": STRINGS, "binaryData": BYTES, "immutable": BOOL},
    "secrets": {"data": BYTES, "stringData": STRINGS, "type": STR, "immutable": BOOL},
    "serviceaccounts": {
        "secrets": ANY, "imagePullSecrets": ANY, "automountServiceAccountToken": BOOL,
    },
}  # fmt: skip


def schema_of(resource: str, kind: str) -> Struct | None:
    """The type of a whole object, or None when its fields are not known here."""
    if resource in _SPECS:
        return Struct(kind, {**_TOP, "spec": _SPECS[resource]})
    if resource in _WITHOUT_SPEC:
        return Struct(kind, {**_TOP, **_WITHOUT_SPEC[resource]})
    return None
