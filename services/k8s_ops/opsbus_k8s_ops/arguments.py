"""The types of arguments that several tools share, with their bounds and descriptions."""

from typing import Annotated, Literal

from pydantic import Field

_DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_DNS_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"

Cluster = Annotated[
    str | None,
    Field(max_length=253, description="A cluster's name, as k8s_list_clusters says. Default: the default one."),
]
Namespace = Annotated[str, Field(pattern=_DNS_LABEL, description="The namespace.")]
Namespaces = Annotated[
    list[Namespace] | None, Field(max_length=20, description="Namespaces to look in. Default: all of them.")
]
Name = Annotated[str, Field(pattern=_DNS_NAME)]
ObjectRef = Annotated[str, Field(max_length=280, pattern=r"^([A-Za-z][A-Za-z0-9.\-]*/)?[A-Za-z0-9][-A-Za-z0-9.:_]*$")]
Workload = Annotated[str, Field(max_length=280, pattern=r"^([A-Za-z.]+/)?[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")]
LabelSelector = Annotated[
    str | None, Field(max_length=1000, description="Kubernetes label selector: app=checkout,tier!=cache.")
]
FieldSelector = Annotated[
    str | None, Field(max_length=1000, description="Kubernetes field selector: spec.nodeName=n1.")
]
Limit = Annotated[int, Field(ge=1, le=500, description="Rows in this answer, at most.")]
PageCursor = Annotated[str | None, Field(max_length=1000, description="next_cursor of the answer before.")]
Reason = Annotated[
    str, Field(min_length=3, max_length=500, description="Why, for the audit log and for whoever confirms it.")
]
DryRun = Annotated[bool, Field(description="Only show the plan; the API server checks it and stores nothing.")]
Confirm = Annotated[
    str | None, Field(max_length=2000, description="The token of a confirmation_required answer, once a person agreed.")
]
IdempotencyKey = Annotated[
    str | None, Field(max_length=200, description="The same key and arguments again return the first outcome.")
]
ExpectedVersion = Annotated[
    str | None, Field(max_length=64, description="`version` as read before; refused when the object has changed since.")
]
WaitSeconds = Annotated[int, Field(ge=0, le=120, description="Watch the rollout for at most this many seconds.")]

WorkloadKind = Literal["Deployment", "StatefulSet", "DaemonSet"]
