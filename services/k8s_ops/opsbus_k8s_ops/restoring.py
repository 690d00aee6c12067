"""Which revision a rollback means, and the patch that restores its template. No request is made here."""

import copy
from typing import Any

from opsbus import ErrorCode, ToolError
from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.objects import annotations
from opsbus_k8s_ops.revisions import CHANGE_CAUSE, REVISION, Revision

HASH_LABEL = "pod-template-hash"
"""The controller's own mark on the template of a replica set; a deployment's template never has it."""


def current_of(obj: Obj, revisions: list[Revision]) -> Revision | None:
    """The revision that is rolled out, or on its way."""
    return next((revision for revision in revisions if revision.current), None)


def target_of(obj: Obj, revisions: list[Revision], wanted: int | None, what: str) -> Revision:
    """The revision to go back to: the one named, or the newest before the current one.

    Raises:
        ToolError: ``precondition_failed`` when there is none before; ``not_found`` for a number nobody keeps.
    """
    known = sorted((revision for revision in revisions if revision.number > 0), key=lambda entry: -entry.number)
    numbers = [revision.number for revision in known]
    if wanted is not None:
        found = next((revision for revision in known if revision.number == wanted), None)
        if found is not None:
            return found
        raise ToolError(
            ErrorCode.NOT_FOUND,
            f"{what} has no revision {wanted}",
            hint=f"The cluster keeps: {', '.join(map(str, numbers)) or 'none'}; k8s_rollout_history tells them apart.",
            details={"revisions": numbers},
        )
    text = annotations(obj).get(REVISION, "")
    current = int(text) if text.isdigit() else 0
    before = next((revision for revision in known if revision.number < current), None)
    if before is None:
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED,
            f"{what} has nothing to roll back to: the cluster keeps no revision before {current or 'the current one'}",
            hint="k8s_rollout_history shows what is kept (revisionHistoryLimit bounds it).",
            details={"revisions": numbers, "current": current},
        )
    return before


def template_without_hash(template: Obj) -> Obj:
    """The template as the deployment had it."""
    plain = copy.deepcopy(template)
    labels = (plain.get("metadata") or {}).get("labels")
    if labels:
        labels.pop(HASH_LABEL, None)
    return plain


def same_template(one: Obj, other: Obj) -> bool:
    """Whether two templates ask for the same pods. What is null or empty says nothing."""
    return bool(_said(template_without_hash(one)) == _said(template_without_hash(other)))


def restoring_patch(obj: Obj, target: Revision) -> Obj:
    """The merge patch that gives a deployment the template of a revision, and the note of what that was for.

    Without a note on the revision the deployment's own goes: it was about the one that is left.
    """
    template = merge_difference((obj.get("spec") or {}).get("template") or {}, template_without_hash(target.template))
    change: Obj = {"spec": {"template": template}}
    cause = target.change_cause
    if annotations(obj).get(CHANGE_CAUSE) != cause:
        change["metadata"] = {"annotations": {CHANGE_CAUSE: cause}}
    return change


def merge_difference(before: Obj, after: Obj) -> Obj:
    """The JSON merge patch (RFC 7386) that makes ``after`` of ``before``: what is gone is null, lists go whole."""
    patch: Obj = {}
    for key, value in after.items():
        old = before.get(key)
        if value is None or value == old:
            continue
        patch[key] = merge_difference(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    gone = {key for key, old in before.items() if old is not None and after.get(key) is None}
    return {**patch, **dict.fromkeys(gone)}


def _said(value: Any) -> Any:
    if isinstance(value, dict):
        parts = {key: _said(part) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part not in (None, {}, [])}
    if isinstance(value, list):
        return [_said(part) for part in value]
    return value
