"""Who may do what: roles and bindings, read from the store at each question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]
MASTERS = "system:masters"


@dataclass(frozen=True)
class Question:
    """May this be done? `resource` includes a subresource (`pods/log`); `path` is for non-resource URLs alone."""

    verb: str
    group: str = ""
    resource: str = ""
    name: str = ""
    namespace: str = ""
    path: str = ""


class Authorizer:
    """Answers questions from the Role, ClusterRole and binding objects of a store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def allows(self, user: str, groups: tuple[str, ...], question: Question) -> bool:
        """Whether any rule bound to the user or one of the groups allows it."""
        if MASTERS in groups:
            return True
        return any(_rule_allows(rule, question) for rule in self.rules(user, groups, question.namespace))

    def rules(self, user: str, groups: tuple[str, ...], namespace: str) -> Iterator[Obj]:
        """The rules that hold for somebody, cluster-wide and in one namespace (none when "")."""
        for binding in self._store.list("clusterrolebindings"):
            if _binds(binding, user, groups):
                yield from self._role_rules(binding, "")
        if not namespace:
            return
        for binding in self._store.list("rolebindings", namespace):
            if _binds(binding, user, groups):
                yield from self._role_rules(binding, namespace)

    def _role_rules(self, binding: Obj, namespace: str) -> list[Obj]:
        reference = binding["roleRef"]
        if reference["kind"] == "ClusterRole":
            role = self._store.get("clusterroles", "", reference["name"])
        else:
            role = self._store.get("roles", namespace, reference["name"])
        return list((role or {}).get("rules") or [])


def _binds(binding: Obj, user: str, groups: tuple[str, ...]) -> bool:
    namespace = binding["metadata"].get("namespace", "")
    for subject in binding.get("subjects") or []:
        kind, name = subject.get("kind"), subject.get("name")
        if kind == "User" and name == user:
            return True
        if kind == "Group" and name in groups:
            return True
        if kind == "ServiceAccount" and user == f"system:serviceaccount:{subject.get('namespace', namespace)}:{name}":
            return True
    return False


def _rule_allows(rule: Obj, question: Question) -> bool:
    if not _covers(rule.get("verbs"), question.verb):
        return False
    if question.path:
        return any(_path_matches(pattern, question.path) for pattern in rule.get("nonResourceURLs") or [])
    if not _covers(rule.get("apiGroups"), question.group):
        return False
    if not _covers_resource(rule.get("resources") or [], question.resource):
        return False
    names = rule.get("resourceNames") or []
    return not names or question.name in names


def _covers(allowed: list[str] | None, wanted: str) -> bool:
    return allowed is not None and ("*" in allowed or wanted in allowed)


def _covers_resource(allowed: list[str], wanted: str) -> bool:
    if "*" in allowed or wanted in allowed:
        return True
    _, slash, subresource = wanted.partition("/")
    return bool(slash) and f"*/{subresource}" in allowed


def _path_matches(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else pattern == path
