"""Rules of deployments, replica sets, stateful sets, daemon sets, jobs and cron jobs."""

from __future__ import annotations

import re
from typing import Any

from opsbus_sandbox.kube.errors import Cause, forbidden_field, invalid_value, required, unsupported
from opsbus_sandbox.kube.objects.meta_rules import check_labels
from opsbus_sandbox.kube.objects.pod_rules import NOT_NEGATIVE, check_pod_spec
from opsbus_sandbox.kube.selectors import match_selector

Obj = dict[str, Any]

_PERCENT = re.compile(r"^[0-9]+%\Z")
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)
_IMMUTABLE = "field is immutable"


def check_deployment(obj: Obj) -> list[Cause]:
    """A deployment's spec."""
    spec = obj["spec"]
    causes = _counts(spec, ("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"))
    causes += _selector_and_template(spec)
    deadline, ready = spec.get("progressDeadlineSeconds") or 0, spec.get("minReadySeconds") or 0
    if deadline <= ready and deadline >= 0:
        text = "must be greater than minReadySeconds"
        causes.append(invalid_value("spec.progressDeadlineSeconds", deadline, text))
    return causes + _check_strategy(spec.get("strategy") or {})


def _check_strategy(strategy: Obj) -> list[Cause]:
    path, kind, rolling = "spec.strategy", strategy.get("type"), strategy.get("rollingUpdate")
    if kind not in ("Recreate", "RollingUpdate"):
        return [unsupported(f"{path}.type", kind, ("Recreate", "RollingUpdate"))]
    if kind == "Recreate":
        if rolling is None:
            return []
        text = "may not be specified when strategy `type` is 'Recreate'"
        return [forbidden_field(f"{path}.rollingUpdate", text)]
    surge, unavailable = (rolling or {}).get("maxSurge", 0), (rolling or {}).get("maxUnavailable", 0)
    causes = _int_or_percent(f"{path}.rollingUpdate.maxUnavailable", unavailable)
    causes += _int_or_percent(f"{path}.rollingUpdate.maxSurge", surge)
    if not causes and _is_zero(surge) and _is_zero(unavailable):
        text = "may not be 0 when `maxSurge` is 0"
        causes.append(invalid_value(f"{path}.rollingUpdate.maxUnavailable", unavailable, text))
    return causes


def _is_zero(value: Any) -> bool:
    return str(value).rstrip("%") in ("0", "00")


def _int_or_percent(field: str, value: Any) -> list[Cause]:
    if isinstance(value, str):
        return [] if _PERCENT.match(value) else [invalid_value(field, value, _PERCENT_TEXT)]
    return [invalid_value(field, value, NOT_NEGATIVE)] if value < 0 else []


def check_replicaset(obj: Obj) -> list[Cause]:
    """A replica set's spec."""
    return _counts(obj["spec"], ("replicas", "minReadySeconds")) + _selector_and_template(obj["spec"])


def check_statefulset(obj: Obj) -> list[Cause]:
    """A stateful set's spec."""
    spec = obj["spec"]
    causes = _counts(spec, ("replicas", "minReadySeconds", "revisionHistoryLimit")) + _selector_and_template(spec)
    if spec.get("podManagementPolicy") not in ("OrderedReady", "Parallel"):
        allowed = ("OrderedReady", "Parallel")
        causes.append(unsupported("spec.podManagementPolicy", spec.get("podManagementPolicy"), allowed))
    return causes


def check_daemonset(obj: Obj) -> list[Cause]:
    """A daemon set's spec."""
    return _counts(obj["spec"], ("minReadySeconds", "revisionHistoryLimit")) + _selector_and_template(obj["spec"])


def check_job(obj: Obj) -> list[Cause]:
    """A job's spec."""
    return _job_spec("spec", obj["spec"])


def check_cronjob(obj: Obj) -> list[Cause]:
    """A cron job's spec. The schedule has five fields, or is one of the @ names."""
    spec = obj["spec"]
    schedule = spec.get("schedule") or ""
    causes: list[Cause] = []
    if not schedule:
        causes.append(required("spec.schedule"))
    elif not schedule.startswith("@") and len(schedule.split()) != 5:
        text = f"expected exactly 5 fields, found {len(schedule.split())}: [{schedule}]"
        causes.append(invalid_value("spec.schedule", schedule, text))
    if spec.get("concurrencyPolicy") not in ("Allow", "Forbid", "Replace"):
        allowed = ("Allow", "Forbid", "Replace")
        causes.append(unsupported("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), allowed))
    return causes + _job_spec("spec.jobTemplate.spec", (spec.get("jobTemplate") or {}).get("spec") or {})


def _job_spec(path: str, spec: Obj) -> list[Cause]:
    causes = [
        invalid_value(f"{path}.{field}", spec[field], NOT_NEGATIVE)
        for field in ("parallelism", "completions", "backoffLimit", "ttlSecondsAfterFinished")
        if (spec.get(field) or 0) < 0
    ]
    template = spec.get("template") or {}
    pod_spec = template.get("spec") or {}
    causes += check_pod_spec(f"{path}.template.spec", pod_spec)
    if pod_spec.get("restartPolicy") == "Always":
        text = 'valid values: "OnFailure", "Never"'
        causes.append(Cause(f"{path}.template.spec.restartPolicy", "FieldValueRequired", f"Required value: {text}"))
    return causes


def _counts(spec: Obj, fields: tuple[str, ...]) -> list[Cause]:
    return [invalid_value(f"spec.{field}", spec[field], NOT_NEGATIVE) for field in fields if (spec.get(field) or 0) < 0]


def _selector_and_template(spec: Obj) -> list[Cause]:
    causes: list[Cause] = []
    selector = spec.get("selector")
    if selector is None:
        causes.append(required("spec.selector"))
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        text = "empty selector is invalid for deployment"
        causes.append(invalid_value("spec.selector", "", text))
    else:
        causes += check_selector("spec.selector", selector)
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    causes += check_labels("spec.template.labels", labels)
    if selector and not causes and not match_selector(selector, labels):
        shown = _go_map(labels)
        text = "`selector` does not match template `labels`"
        causes.append(Cause("spec.template.metadata.labels", "FieldValueInvalid", f"Invalid value: {shown}: {text}"))
    pod_spec = template.get("spec") or {}
    causes += check_pod_spec("spec.template.spec", pod_spec)
    if pod_spec.get("restartPolicy") in ("OnFailure", "Never"):
        causes.append(unsupported("spec.template.spec.restartPolicy", pod_spec["restartPolicy"], ("Always",)))
    return causes


def check_selector(path: str, selector: Obj) -> list[Cause]:
    """A LabelSelector object."""
    causes = check_labels(f"{path}.matchLabels", selector.get("matchLabels"))
    for index, entry in enumerate(selector.get("matchExpressions") or []):
        field = f"{path}.matchExpressions[{index}]"
        operator, values = entry.get("operator"), entry.get("values") or []
        if not entry.get("key"):
            causes.append(required(f"{field}.key"))
        if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            causes.append(invalid_value(f"{field}.operator", operator, "not a valid selector operator"))
        elif operator in ("In", "NotIn") and not values:
            causes.append(required(f"{field}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist") and values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(forbidden_field(f"{field}.values", text))
    return causes


def _go_map(labels: dict[str, str]) -> str:
    pairs = ", ".join(f'"{key}":"{value}"' for key, value in sorted(labels.items()))
    return f"map[string]string{{{pairs}}}"


def _go_selector(selector: Obj) -> str:
    labels = _go_map(selector.get("matchLabels") or {})
    return f"v1.LabelSelector{{MatchLabels:{labels}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}}"


def check_selector_update(old: Obj, new: Obj) -> list[Cause]:
    """The selector of an apps/v1 workload never changes."""
    before, after = old["spec"].get("selector"), new["spec"].get("selector")
    if before == after or after is None:
        return []
    return [Cause("spec.selector", "FieldValueInvalid", f"Invalid value: {_go_selector(after)}: {_IMMUTABLE}")]


_STATEFULSET_MUTABLE = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip


def check_statefulset_update(old: Obj, new: Obj) -> list[Cause]:
    """Most of a stateful set's spec is fixed."""
    fixed = [
        {key: value for key, value in obj["spec"].items() if key not in _STATEFULSET_MUTABLE} for obj in (old, new)
    ]
    if fixed[0] == fixed[1]:
        return []
    names = ", ".join(f"'{name}'" for name in _STATEFULSET_MUTABLE[:-1])
    text = f"updates to statefulset spec for fields other than {names} and 'minReadySeconds' are forbidden"
    return [forbidden_field("spec", text)]


def check_job_update(old: Obj, new: Obj) -> list[Cause]:
    """A job's template and selector never change."""
    return [
        Cause(f"spec.{field}", "FieldValueInvalid", f"Invalid value: {{...}}: {_IMMUTABLE}")
        for field in ("completions", "selector", "template")
        if old["spec"].get(field) != new["spec"].get(field)
    ]
