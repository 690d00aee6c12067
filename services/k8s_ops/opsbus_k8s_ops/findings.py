"""What the parts of a diagnosis mean together: pods, events, rollouts and probes as sentences. Pure functions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.diagnosis import Finding, ProbeRow
from opsbus_k8s_ops.eventrows import Event
from opsbus_k8s_ops.masking import mask_text
from opsbus_k8s_ops.models import Autoscaler
from opsbus_k8s_ops.objects import in_words, labels, meta
from opsbus_k8s_ops.podhealth import Health
from opsbus_k8s_ops.revisions import Revision, TemplateChange
from opsbus_k8s_ops.rollout import Rollout

LEVELS = ("problem", "warning", "note")
EVIDENCE_MAX = 6
SENTENCE_CHARS_MAX = 500

TELLING: dict[str, tuple[str, ...]] = {
    "OOMKilled": ("resources.limits.memory", "resources.requests.memory", "image"),
    "Unschedulable": ("resources.requests", "nodeSelector", "affinity", "tolerations"),
    "ErrImagePull": ("image", "imagePullSecrets"),
    "ImagePullBackOff": ("image", "imagePullSecrets"),
    "InvalidImageName": ("image",),
    "CreateContainerConfigError": ("env", "envFrom", "volumes"),
}
"""Which changes of a template can bring about which cause, by a part of their path."""

TROUBLE: dict[str, str] = {
    "FailedCreate": "pods cannot be created",
    "FailedMount": "a volume cannot be mounted",
    "FailedAttachVolume": "a volume cannot be attached",
    "ProvisioningFailed": "a volume cannot be provided",
    "FailedGetResourceMetric": "the autoscaler gets no metrics",
    "Evicted": "pods are evicted",
    "Preempting": "pods are preempted",
    "NodeNotReady": "a node is not ready",
}
"""Reasons of events that pods' states do not show."""


@dataclass(frozen=True)
class Parts:
    """All that is known of a workload; what could not be read is empty."""

    workload: Obj
    rollout: Rollout
    pods: Sequence[tuple[Health, Obj]]
    events: Sequence[Event]
    revisions: Sequence[Revision]
    changes: Sequence[TemplateChange]
    """Of the current revision, against the one before."""
    probes: Sequence[ProbeRow]
    hpa: Autoscaler | None
    now: datetime


def find(parts: Parts) -> list[Finding]:
    """The findings, the gravest first; there is always one."""
    found = [
        *_of_revisions(parts),
        *_of_rollout(parts),
        *_of_pods(parts),
        *_of_events(parts),
        *_of_probes(parts),
        *_of_scale(parts),
    ]
    if not any(finding.level != "note" for finding in found):
        total = len(parts.pods)
        found.append(_finding("note", f"the cluster knows of nothing that is wrong; {total} pods, none in trouble"))
        found.reverse()
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def _finding(level: str, what: str, evidence: Sequence[str] = ()) -> Finding:
    told = [mask_text(line)[:SENTENCE_CHARS_MAX] for line in evidence[:EVIDENCE_MAX]]
    return Finding.model_validate({"level": level, "what": mask_text(what)[:SENTENCE_CHARS_MAX], "evidence": told})


def revision_of(pod: Obj, revisions: Sequence[Revision]) -> Revision | None:
    """The revision that made a pod."""
    of_deployment, of_set = labels(pod).get("pod-template-hash"), labels(pod).get("controller-revision-hash")
    for revision in revisions:
        if of_deployment and revision.name.endswith(f"-{of_deployment}"):
            return revision
        if of_set and (revision.name == of_set or revision.name.endswith(f"-{of_set}")):
            return revision
    return None


def _of_rollout(parts: Parts) -> list[Finding]:
    rollout = parts.rollout
    if rollout.state in ("failing", "stuck", "degraded"):
        return [_finding("problem", f"the rollout is {rollout.state}: {rollout.reason}")]
    if rollout.state == "paused":
        return [_finding("warning", "the rollout is paused: no change takes effect before it is resumed")]
    if rollout.state == "scaled_to_zero":
        return [_finding("warning", "it is scaled to zero: nothing of it runs")]
    if rollout.state == "progressing":
        return [_finding("note", f"a rollout is under way: {rollout.reason}")]
    return []


def _of_revisions(parts: Parts) -> list[Finding]:
    """Whether trouble came with the newest revision alone: the strongest sign there is."""
    sick, well = Counter[int](), Counter[int]()
    for health, pod in parts.pods:
        revision = revision_of(pod, parts.revisions)
        if revision is not None:
            (well if health.healthy else sick)[revision.number] += 1
    current = next((revision for revision in parts.revisions if revision.current), None)
    if current is None or set(sick) != {current.number} or well[current.number]:
        return []
    older = [number for number in well if number != current.number]
    age = f", made {in_words((parts.now - current.created).total_seconds())} ago," if current.created else ""
    causes = [health.cause for health, _ in parts.pods if not health.healthy and health.cause]
    told = [f"revision {current.number} changed {change.to_text()}" for change in telling(parts.changes, causes)]
    if older:
        what = (
            f"all {sick[current.number]} pods of revision {current.number}{age} are in trouble, while"
            f" {sum(well.values())} pods of revision {', '.join(map(str, sorted(older)))} are well: the rollout is the"
            " likely cause"
        )
        return [_finding("problem", what, told)]
    if not told:
        return []
    return [_finding("warning", f"every pod is in trouble since revision {current.number}{age.rstrip(',')}", told)]


def telling(changes: Sequence[TemplateChange], causes: Sequence[str]) -> list[TemplateChange]:
    """The changes that can bring about one of the causes, then the others; labels and annotations last."""
    words = [word for cause in causes for word in TELLING.get(cause, ())]

    def rank(change: TemplateChange) -> int:
        fitting = [index for index, word in enumerate(words) if word in change.path]
        if fitting:
            return fitting[0]
        return len(words) + change.path.startswith("metadata.")

    return sorted(changes, key=rank)


def _of_pods(parts: Parts) -> list[Finding]:
    """A finding per cause."""
    by_cause: dict[str, list[tuple[Health, Obj]]] = {}
    for health, pod in parts.pods:
        if not health.healthy:
            by_cause.setdefault(health.cause or health.state, []).append((health, pod))
    found = []
    for cause, members in sorted(by_cause.items(), key=lambda item: (-len(item[1]), item[0])):
        names = [str(meta(pod).get("name")) for _, pod in members]
        several = f"{len(names)} pods are" if len(names) > 1 else f"pod {names[0]} is"
        state = members[0][0].state
        what = f"{several} {state}" + (f" ({cause})" if cause != state else "")
        evidence = [f"{name}: {health.reason}" for name, (health, _) in zip(names, members, strict=True)]
        found.append(_finding("problem", what, evidence[:3]))
    return found


def _of_events(parts: Parts) -> list[Finding]:
    """What only events tell."""
    told: dict[str, list[Event]] = {}
    for event in parts.events:
        if event.reason in TROUBLE and event.type != "Normal":
            told.setdefault(event.reason, []).append(event)
    return [
        _finding(
            "problem" if reason == "FailedCreate" else "warning",
            f"{TROUBLE[reason]}: {events[-1].message}",
            [f"{reason} {sum(event.count for event in events)} times, of {events[-1].object}"],
        )
        for reason, events in told.items()
    ]


def _of_probes(parts: Parts) -> list[Finding]:
    found = [
        _finding(
            "warning",
            f"the {probe.probe} probe of container {probe.container} ({probe.check}) failed {probe.failed} times",
            [probe.message] if probe.message else [],
        )
        for probe in parts.probes
        if probe.failed
    ]
    ready = {probe.container for probe in parts.probes if probe.probe == "readiness"}
    template = ((parts.workload.get("spec") or {}).get("template") or {}).get("spec") or {}
    blind = [str(entry.get("name")) for entry in template.get("containers") or [] if entry.get("name") not in ready]
    if blind:
        found.append(_finding("note", f"container {', '.join(blind)} has no readiness probe: it gets traffic at once"))
    return found


def _of_scale(parts: Parts) -> list[Finding]:
    hpa = parts.hpa
    if hpa is None or hpa.current_replicas < hpa.max_replicas:
        return []
    note = [hpa.note] if hpa.note else []
    return [_finding("warning", f"the autoscaler {hpa.name} is at its maximum of {hpa.max_replicas} replicas", note)]
