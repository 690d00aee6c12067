"""Access reviews: questions about permissions, asked and answered as objects that are never stored."""

from __future__ import annotations

from typing import Any

from opsbus_sandbox.kube.errors import ApiError, Cause, invalid, invalid_value, required
from opsbus_sandbox.kube.identity import User
from opsbus_sandbox.kube.rbac import MASTERS, Authorizer, Question
from opsbus_sandbox.kube.resources import ResourceType

Obj = dict[str, Any]


def answer_review(kind: ResourceType, body: Obj, namespace: str, user: User, authorizer: Authorizer) -> Obj:
    """The review with its status. Raises ApiError 422 when the question is incomplete."""
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise invalid(kind.qualified_kind, "", [invalid_value("spec", "", "must be an object")])
    meta = {"creationTimestamp": None, **(body.get("metadata") or {})}
    answer: Obj = {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta, "spec": spec}
    if kind.kind == "SelfSubjectReview":
        del answer["spec"]
        answer["status"] = {"userInfo": {"username": user.name, "groups": list(user.groups)}}
        return answer
    if kind.kind == "SelfSubjectRulesReview":
        answer["status"] = _rules_status(kind, spec, user, authorizer)
        return answer
    if kind.kind == "LocalSubjectAccessReview":
        asked = (spec.get("resourceAttributes") or {}).get("namespace", "")
        if asked != namespace:
            cause = invalid_value("spec.resourceAttributes.namespace", asked, "must match metadata.namespace")
            raise invalid(kind.qualified_kind, "", [cause])
    if kind.kind != "SelfSubjectAccessReview":
        user = _subject(kind, spec)
    question = _question(kind, spec)
    allowed = authorizer.allows(user.name, user.groups, question)
    answer["status"] = {"allowed": allowed}
    if allowed:
        answer["status"]["reason"] = "RBAC: allowed by the roles bound to the user"
    return answer


def _subject(kind: ResourceType, spec: Obj) -> User:
    name, groups = spec.get("user", ""), spec.get("groups") or []
    if not name and not groups:
        text = "at least one of user or group must be specified"
        raise invalid(kind.qualified_kind, "", [invalid_value("spec.user", "", text)])
    return User(str(name), tuple(str(group) for group in groups))


def _question(kind: ResourceType, spec: Obj) -> Question:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if bool(resource) == bool(path):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        raise _incomplete(kind, invalid_value("spec.resourceAttributes", "", text))
    attributes = resource or path
    if not isinstance(attributes, dict):
        raise _incomplete(kind, required("spec.resourceAttributes"))
    if path:
        return Question(str(path.get("verb", "")), path=str(path.get("path", "")))
    name = str(attributes.get("resource", ""))
    if subresource := attributes.get("subresource"):
        name = f"{name}/{subresource}"
    return Question(
        str(attributes.get("verb", "")),
        str(attributes.get("group", "")),
        name,
        str(attributes.get("name", "")),
        str(attributes.get("namespace", "")),
    )


def _incomplete(kind: ResourceType, cause: Cause) -> ApiError:
    return invalid(kind.qualified_kind, "", [cause])


def _rules_status(kind: ResourceType, spec: Obj, user: User, authorizer: Authorizer) -> Obj:
    namespace = spec.get("namespace", "")
    if not namespace:
        raise _incomplete(kind, required("spec.namespace", "no namespace on request"))
    resources: list[Obj] = []
    paths: list[Obj] = []
    if MASTERS in user.groups:
        resources.append({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]})
        paths.append({"verbs": ["*"], "nonResourceURLs": ["*"]})
    for rule in authorizer.rules(user.name, user.groups, namespace):
        if rule.get("nonResourceURLs"):
            paths.append({"verbs": rule["verbs"], "nonResourceURLs": rule["nonResourceURLs"]})
        else:
            resources.append(dict(rule))
    return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}
