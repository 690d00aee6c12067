"""The job and cron job controllers: pods that run to their end, and jobs that are made by the clock."""

from __future__ import annotations

import copy
from typing import Any

from opsbus_sandbox.clock import parse_timestamp, timestamp
from opsbus_sandbox.kube.factory import owned_by, owner_reference
from opsbus_sandbox.kube.names import random_suffix
from opsbus_sandbox.kube.objects.defaults import apply_defaults
from opsbus_sandbox.kube.podstatus import is_active, is_ready
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.reconcile.cron import is_due
from opsbus_sandbox.kube.reconcile.pods_of import create_pod, delete_pod, pods_owned_by

Obj = dict[str, Any]
_COMPONENT = "job-controller"
_RETRY_S = 10.0


def sync_job(ctx: Context, namespace: str, name: str) -> None:
    """Start the pods that are wanted, and call the job done when enough succeeded or too many failed."""
    job = ctx.store.get("jobs", namespace, name)
    if job is None or job["metadata"].get("deletionTimestamp"):
        return
    if _finished(job):
        _expire(ctx, job)
        return
    pods, spec = pods_owned_by(ctx, job), job["spec"]
    phases = [pod.get("status", {}).get("phase") for pod in pods]
    succeeded, failed = phases.count("Succeeded"), phases.count("Failed")
    active = [pod for pod in pods if is_active(pod)]
    restarts = sum(
        int(status.get("restartCount", 0)) for pod in active for status in pod["status"].get("containerStatuses") or []
    )
    outcome = ""
    if failed + restarts > spec["backoffLimit"]:
        outcome = "Failed"
    elif succeeded >= spec["completions"]:
        outcome = "Complete"
    wanted = 0 if outcome or spec.get("suspend") else min(spec["parallelism"], spec["completions"] - succeeded)
    for pod in active[wanted:]:
        delete_pod(ctx, job, pod, _COMPONENT)
    for _ in range(wanted - len(active)):
        pod_name = f"{name}-{random_suffix(ctx.store.random)}"
        if create_pod(ctx, job, spec["template"], pod_name, _COMPONENT):
            ctx.after(_RETRY_S, ("jobs", namespace, name))
            break
    _write_status(ctx, job, outcome, succeeded, failed)


def _finished(job: Obj) -> bool:
    conditions = (job.get("status") or {}).get("conditions") or []
    return any(entry["type"] in ("Complete", "Failed") and entry["status"] == "True" for entry in conditions)


def _expire(ctx: Context, job: Obj) -> None:
    ttl = job["spec"].get("ttlSecondsAfterFinished")
    if ttl is None:
        return
    ended = parse_timestamp(job["status"]["conditions"][-1]["lastTransitionTime"])
    left = ttl - ctx.simulated_age(ended)
    meta = job["metadata"]
    if left > 0:
        ctx.after(left, ("jobs", meta["namespace"], meta["name"]))
    else:
        ctx.store.delete("jobs", meta["namespace"], meta["name"])


def _write_status(ctx: Context, job: Obj, outcome: str, succeeded: int, failed: int) -> None:
    old = job.get("status") or {}
    active = [pod for pod in pods_owned_by(ctx, job) if is_active(pod)]
    now = timestamp(ctx.now())
    counts = {"active": len(active), "succeeded": succeeded, "failed": failed}
    status: Obj = {"startTime": old.get("startTime", now), **{k: count for k, count in counts.items() if count}}
    status["ready"] = sum(map(is_ready, active))
    if outcome:
        reason, message = ("CompletionsReached", "Reached expected number of succeeded pods")
        if outcome == "Failed":
            reason, message = ("BackoffLimitExceeded", "Job has reached the specified backoff limit")
        else:
            status["completionTime"] = now
        entry = {"type": outcome, "status": "True", "reason": reason, "message": message}
        status["conditions"] = [{**entry, "lastProbeTime": now, "lastTransitionTime": now}]
        kind = "Warning" if outcome == "Failed" else "Normal"
        told = "Job completed" if outcome == "Complete" else message
        event = "Completed" if outcome == "Complete" else reason
        ctx.recorder.record(job, kind, event, told, _COMPONENT)
    ctx.set_status("jobs", job, status)


def sync_cronjob(ctx: Context, namespace: str, name: str) -> None:
    """Make a job when the minute is one of the schedule's, and forget the oldest finished ones."""
    cron = ctx.store.get("cronjobs", namespace, name)
    if cron is None or cron["metadata"].get("deletionTimestamp"):
        return
    minute = ctx.now().replace(second=0, microsecond=0)
    jobs = owned_by(ctx.store.list("jobs", namespace), cron)
    status = {k: v for k, v in (cron.get("status") or {}).items() if k != "active"}
    running = [job for job in jobs if not _finished(job)]
    try:
        due = is_due(cron["spec"]["schedule"], minute) and not cron["spec"].get("suspend")
    except ValueError as error:
        ctx.recorder.record(cron, "Warning", "UnparseableSchedule", str(error), "cronjob-controller")
        due = False
    if due and status.get("lastScheduleTime") != timestamp(minute):
        status["lastScheduleTime"] = timestamp(minute)
        if not (running and cron["spec"].get("concurrencyPolicy") == "Forbid"):
            running.append(_create_job(ctx, cron, int(minute.timestamp()) // 60))
    finished = [job for job in jobs if _finished(job)]
    done = max((j["status"]["completionTime"] for j in finished if "completionTime" in j["status"]), default="")
    if done:
        status["lastSuccessfulTime"] = done
    for outcome, field in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        _forget(ctx, [j for j in finished if j["status"]["conditions"][0]["type"] == outcome], cron["spec"][field])
    if running:
        status["active"] = [
            {"kind": "Job", "apiVersion": "batch/v1", "namespace": namespace, "name": job["metadata"]["name"],
             "uid": job["metadata"]["uid"]}
            for job in running
        ]  # fmt: skip
    ctx.set_status("cronjobs", cron, status)
    # The clock runs in real minutes whatever the speed: schedules are about the calendar.
    ctx.after((60 - ctx.now().second + 0.5) * ctx.clock.speed, ("cronjobs", namespace, name))


def _create_job(ctx: Context, cron: Obj, minute: int) -> Obj:
    template = copy.deepcopy(cron["spec"]["jobTemplate"])
    meta = {
        **(template.get("metadata") or {}),
        "name": f"{cron['metadata']['name']}-{minute}",
        "namespace": cron["metadata"]["namespace"],
        "ownerReferences": [owner_reference(cron)],
    }
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": template["spec"], "status": {}}
    ctx.store.stamp("jobs", job)
    apply_defaults("jobs", job)
    existing = ctx.store.get("jobs", meta["namespace"], meta["name"])
    if existing is not None:
        return existing
    created = ctx.store.create("jobs", job)
    told = f"Created job {meta['name']}"
    ctx.recorder.record(cron, "Normal", "SuccessfulCreate", told, "cronjob-controller")
    return created


def _forget(ctx: Context, jobs: list[Obj], limit: int) -> None:
    ordered = sorted(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))
    for job in ordered[: max(0, len(ordered) - limit)]:
        ctx.store.delete("jobs", job["metadata"]["namespace"], job["metadata"]["name"])
