"""One container on its node: pulled, started, ready, ended, started again with growing patience.

Functions change the pod they are given in place and say when to look again; storing it is the kubelet's matter.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from opsbus_sandbox.clock import parse_timestamp, timestamp
from opsbus_sandbox.kube.podstatus import container_id, container_status, running_status
from opsbus_sandbox.kube.reconcile.context import Context
from opsbus_sandbox.kube.runtime import RunPlan

Obj = dict[str, Any]

COMPONENT = "kubelet"
MAX_BACKOFF_S = 300.0
FIRST_BACKOFF_S = 10.0
# A container that ran this long is forgiven its earlier crashes.
FORGIVEN_AFTER_S = 600.0
PROBE_EVERY_S = 10.0


@dataclass
class ContainerMemory:
    """What the node remembers of a container beyond what its status says. Times are simulated seconds."""

    due: float = 0.0
    plan: RunPlan | None = None
    started: float = 0.0
    pulls_failed: int = 0
    crashes: int = 0
    told_creating: bool = False
    next_probe: float = 0.0
    stage: str = "new"  # new, pulling, running, waiting


@dataclass
class PodMemory:
    """What the node remembers of a pod."""

    containers: dict[str, ContainerMemory] = field(default_factory=dict)
    stop_at: float | None = None


def backoff_s(crashes: int) -> float:
    """The wait before the next start: 10 s, 20 s, 40 s, ... up to five minutes."""
    return float(min(FIRST_BACKOFF_S * 2 ** max(0, crashes - 1), MAX_BACKOFF_S))


class ContainerRunner:
    """Drives the containers of one pod for one look at it."""

    def __init__(self, ctx: Context, pod: Obj, memory: PodMemory, pulled: set[tuple[str, str]]) -> None:
        self.ctx = ctx
        self.pod = pod
        self.memory = memory
        self._pulled = pulled
        self.node: str = pod["spec"]["nodeName"]
        self.now = ctx.elapsed()
        self.look_again: float | None = None

    def drive(self, container: Obj, statuses: list[Obj], *, initializing: bool = False) -> Obj:
        """Advance one container as far as its time has come; its status in `statuses` is replaced and returned."""
        index = next((i for i, entry in enumerate(statuses) if entry["name"] == container["name"]), None)
        if index is None:
            statuses.append(container_status(container, {"waiting": {"reason": "ContainerCreating"}}))
            index = len(statuses) - 1
        entry = statuses[index]
        memory = self.memory.containers.get(container["name"])
        if memory is None:
            memory = self.memory.containers[container["name"]] = self._recall(container, entry)
        if memory.stage == "running" and entry["image"] != container["image"]:
            entry = self._replace_image(container, entry, memory)
        if memory.stage == "new":
            self._begin_pull(container, memory)
        if memory.stage in ("pulling", "waiting") and self.now >= memory.due:
            entry = self._start(container, entry, memory)
        if memory.stage == "running":
            entry = self._run(container, entry, memory, initializing=initializing)
        if memory.stage in ("pulling", "waiting"):
            self._wake(memory.due)
        statuses[index] = entry
        return entry

    def _wake(self, when: float) -> None:
        self.look_again = when if self.look_again is None else min(self.look_again, when)

    def _plan(self, container: Obj, restart: int) -> RunPlan:
        return self.ctx.software.plan(self.pod, container, restart)

    def _recall(self, container: Obj, entry: Obj) -> ContainerMemory:
        """Memory of a container that was running, or waiting, before this controller began."""
        state, restarts = entry.get("state") or {}, int(entry.get("restartCount", 0))
        if "running" in state:
            begun = self.now - self.ctx.simulated_age(parse_timestamp(state["running"]["startedAt"]))
            plan = self._plan(container, restarts)
            return ContainerMemory(plan=plan, started=begun, crashes=restarts, stage="running")
        ended = (entry.get("lastState") or {}).get("terminated")
        if state.get("waiting", {}).get("reason") == "CrashLoopBackOff" and ended:
            waited = self.ctx.simulated_age(parse_timestamp(ended["finishedAt"]))
            return ContainerMemory(due=self.now + backoff_s(restarts) - waited, crashes=restarts, stage="waiting")
        if "terminated" in state:
            return ContainerMemory(stage="done")
        return ContainerMemory()

    def _tell(self, kind: str, reason: str, message: str, container: Obj) -> None:
        self.ctx.recorder.record(
            self.pod, kind, reason, message, COMPONENT, host=self.node, container=container["name"]
        )

    def _begin_pull(self, container: Obj, memory: ContainerMemory) -> None:
        image = container["image"]
        dice = random.Random(f"{self.pod['metadata']['uid']}/{container['name']}")  # noqa: S311 - a delay
        present = (self.node, image) in self._pulled and container.get("imagePullPolicy") != "Always"
        if present:
            self._tell("Normal", "Pulled", f'Container image "{image}" already present on machine', container)
            memory.due = self.now + dice.uniform(0.2, 0.5)
        else:
            self._tell("Normal", "Pulling", f'Pulling image "{image}"', container)
            memory.due = self.now + dice.uniform(0.5, 1.2)
        memory.stage = "pulling"

    def _start(self, container: Obj, entry: Obj, memory: ContainerMemory) -> Obj:
        """The wait is over: check what can go wrong before a start, then start."""
        if problem := self.ctx.software.image_problem(container["image"]):
            return self._pull_failed(container, entry, memory, problem)
        if missing := self._missing_reference(container):
            self._tell("Warning", "Failed", f"Error: {missing}", container)
            memory.stage, memory.due = "waiting", self.now + PROBE_EVERY_S
            waiting = {"reason": "CreateContainerConfigError", "message": missing}
            return {**entry, "state": {"waiting": waiting}}
        if (self.node, container["image"]) not in self._pulled:
            self._pulled.add((self.node, container["image"]))
            message = f'Successfully pulled image "{container["image"]}"'
            self._tell("Normal", "Pulled", message, container)
        self._tell("Normal", "Created", f"Created container: {container['name']}", container)
        self._tell("Normal", "Started", f"Started container {container['name']}", container)
        restarts = int(entry.get("restartCount", 0))
        memory.plan, memory.started, memory.stage = self._plan(container, restarts), self.now, "running"
        memory.pulls_failed, memory.next_probe = 0, self.now + PROBE_EVERY_S
        started = running_status(self.pod, container, self.ctx.now(), ready=False, restarts=restarts)
        return {**started, "lastState": entry.get("lastState") or {}}

    def _pull_failed(self, container: Obj, entry: Obj, memory: ContainerMemory, problem: str) -> Obj:
        image = container["image"]
        memory.stage = "waiting"
        backing_off = (entry["state"].get("waiting") or {}).get("reason") == "ErrImagePull"
        if backing_off:
            memory.due = self.now + backoff_s(memory.pulls_failed) - 1.0
            message = f'Back-off pulling image "{image}"'
            self._tell("Normal", "BackOff", message, container)
            self._tell("Warning", "Failed", "Error: ImagePullBackOff", container)
            waiting = {"reason": "ImagePullBackOff", "message": f"{message}: ErrImagePull: {problem}"}
            return {**entry, "image": image, "state": {"waiting": waiting}}
        memory.pulls_failed += 1
        memory.due = self.now + 1.0
        told = f"rpc error: code = NotFound desc = {problem}"
        self._tell("Warning", "Failed", f'Failed to pull image "{image}": {told}', container)
        self._tell("Warning", "Failed", "Error: ErrImagePull", container)
        return {**entry, "image": image, "state": {"waiting": {"reason": "ErrImagePull", "message": told}}}

    def _missing_reference(self, container: Obj) -> str:
        """The config map or secret the container needs and that does not exist."""
        namespace = self.pod["metadata"]["namespace"]
        wanted: list[tuple[str, Obj]] = []
        for source in container.get("envFrom") or []:
            wanted += [("configmaps", source.get("configMapRef") or {}), ("secrets", source.get("secretRef") or {})]
        for variable in container.get("env") or []:
            origin = variable.get("valueFrom") or {}
            wanted += [
                ("configmaps", origin.get("configMapKeyRef") or {}),
                ("secrets", origin.get("secretKeyRef") or {}),
            ]
        for resource, reference in wanted:
            name = reference.get("name")
            if not name or reference.get("optional"):
                continue
            found = self.ctx.store.get(resource, namespace, name)
            singular = resource.rstrip("s")
            if found is None:
                return f'{singular} "{name}" not found'
            if (key := reference.get("key")) and key not in (found.get("data") or {}):
                return f"couldn't find key {key} in {singular.capitalize()} {namespace}/{name}"
        return ""

    def _run(self, container: Obj, entry: Obj, memory: ContainerMemory, *, initializing: bool) -> Obj:
        plan = memory.plan or RunPlan()
        ends_after = plan.exits_after_s
        if initializing and ends_after is None:
            ends_after = 1.5
        uptime = self.now - memory.started
        if ends_after is not None and uptime >= ends_after:
            return self._end(container, entry, memory, plan, forgiven=uptime >= FORGIVEN_AFTER_S)
        ready_after = plan.ready_after_s if container.get("readinessProbe") else 0.0
        if uptime >= ready_after and not initializing:
            if memory.crashes and uptime >= FORGIVEN_AFTER_S:
                memory.crashes = 0
            if not entry["ready"]:
                entry = {**entry, "ready": True, "started": True}
        else:
            if not initializing:
                self._wake(memory.started + ready_after)
            self._probe(container, memory, ready_after)
        if ends_after is not None:
            self._wake(memory.started + ends_after)
        return entry

    def _probe(self, container: Obj, memory: ContainerMemory, ready_after: float) -> None:
        """A readiness probe that goes on failing is worth a warning each time."""
        if not container.get("readinessProbe") or ready_after <= PROBE_EVERY_S:
            return
        if self.now >= memory.next_probe:
            memory.next_probe = self.now + PROBE_EVERY_S
            message = "Readiness probe failed: HTTP probe failed with statuscode: 503"
            self._tell("Warning", "Unhealthy", message, container)
        self._wake(memory.next_probe)

    def _end(self, container: Obj, entry: Obj, memory: ContainerMemory, plan: RunPlan, *, forgiven: bool) -> Obj:
        ended = self._terminated(entry, container, plan.exit_code, plan.exit_reason, plan.exit_message)
        policy = self.pod["spec"].get("restartPolicy", "Always")
        memory.stage = "done"
        if policy == "Never" or (policy == "OnFailure" and plan.exit_code == 0):
            return {**entry, "state": {"terminated": ended}, "ready": False, "started": False}
        if plan.exit_code == 0 and policy == "Always" and container in (self.pod["spec"].get("initContainers") or []):
            return {**entry, "state": {"terminated": ended}, "ready": True, "started": False}
        return self._back_off(container, entry, memory, ended, forgiven=forgiven)

    def _back_off(self, container: Obj, entry: Obj, memory: ContainerMemory, ended: Obj, *, forgiven: bool) -> Obj:
        memory.crashes = 1 if forgiven else memory.crashes + 1
        wait = backoff_s(memory.crashes)
        memory.stage, memory.due = "waiting", self.now + wait
        meta = self.pod["metadata"]
        where = f"{meta['name']}_{meta['namespace']}({meta['uid']})"
        told = f"Back-off restarting failed container {container['name']} in pod {where}"
        self._tell("Warning", "BackOff", told, container)
        shown = f"{int(wait) // 60}m{int(wait) % 60}s" if wait >= 60 else f"{int(wait)}s"
        message = f"back-off {shown} restarting failed container={container['name']} pod={where}"
        return {
            **entry,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": message}},
            "lastState": {"terminated": ended},
            "restartCount": int(entry.get("restartCount", 0)) + 1,
            "ready": False,
            "started": False,
        }

    def _terminated(self, entry: Obj, container: Obj, code: int, reason: str, message: str) -> Obj:
        ended = {
            "exitCode": code, "reason": reason, "startedAt": entry["state"]["running"]["startedAt"],
            "finishedAt": timestamp(self.ctx.now()),
            "containerID": container_id(self.pod, container["name"], int(entry.get("restartCount", 0))),
        }  # fmt: skip
        return {**ended, "message": message} if message else ended

    def _replace_image(self, container: Obj, entry: Obj, memory: ContainerMemory) -> Obj:
        """The image of a running container was changed in place: it is killed and started anew."""
        message = f"Container {container['name']} definition changed, will be restarted"
        self._tell("Normal", "Killing", message, container)
        ended = self._terminated(entry, container, 143, "Error", "")
        memory.stage = "new"
        return {
            **entry, "image": container["image"], "state": {"waiting": {"reason": "ContainerCreating"}},
            "lastState": {"terminated": ended}, "restartCount": int(entry.get("restartCount", 0)) + 1,
            "ready": False, "started": False,
        }  # fmt: skip
