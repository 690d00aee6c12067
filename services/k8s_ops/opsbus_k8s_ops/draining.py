"""Emptying a node by evictions: asking each pod to go, again while a disruption budget holds it, and what became of it.

What is shown to a person, and whether it is done at all, is not decided here.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opsbus import Context, ErrorCode, Executed, ToolError
from opsbus_k8s_ops.api import ClusterApi, path_of
from opsbus_k8s_ops.nodemodels import DrainCounts, DrainedPod, PodFate
from opsbus_k8s_ops.nodes import NodePod, pods_on

EVICTIONS_AT_ONCE = 5
ASK_AGAIN_S = 5.0
"""Between two evictions of a pod that was not let go. Seconds; kubectl's own."""
LOOK_EVERY_S = 2.0
LOOKS_FAILED_MAX = 5
"""In a row: then nobody knows any more what the evictions do, and it ends."""
UNKNOWN_LOOKS_MAX = 5
"""Looks at a pod whose eviction was not answered, until it is taken not to go."""
STOP_S = 0.4
"""A drain that is stopped hears what is already asked for this long. Seconds; the kit gives it one second in all."""
ANSWER_S = 2.0
"""An eviction may be answered this long after the time is over. Seconds."""

ORDER: tuple[PodFate, ...] = ("refused", "unknown", "blocked", "waiting", "stopping", "goes", "stays", "gone")
"""What stands in the way first."""


@dataclass
class Going:
    """A pod that is to go, and how that stands."""

    pod: NodePod
    fate: PodFate = "waiting"
    reason: str | None = None
    again_at: float = 0.0
    looks: int = 0

    @property
    def settled(self) -> bool:
        """Nothing more comes of it."""
        return self.fate in ("gone", "refused") or (self.fate == "unknown" and self.looks >= UNKNOWN_LOOKS_MAX)

    def row(self) -> DrainedPod:
        """As it is shown."""
        return drained_pod(self.pod, self.fate, self.reason)


def drained_pod(pod: NodePod, fate: PodFate, reason: str | None = None) -> DrainedPod:
    """A pod as it is shown."""
    return DrainedPod(
        namespace=pod.namespace,
        name=pod.name,
        workload=pod.workload,
        part=pod.part,
        local_storage=list(pod.local_storage),
        fate=fate,
        reason=reason,
    )


async def evict(api: ClusterApi, pod: NodePod, *, dry_run: bool) -> None:
    """Asks the cluster to stop one pod, as far as its disruption budgets allow; only this pod, not one of its name.

    Raises:
        ToolError: the cluster's refusal; of a disruption budget with ``details.disruption_budget``.
    """
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": pod.namespace, "name": pod.name},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    }
    path = path_of("pods", pod.namespace, pod.name, "eviction")
    await api.post(path, body, f"evict pod {pod.key}", dry_run=dry_run)


async def rehearse(api: ClusterApi, pods: Sequence[NodePod]) -> list[Going]:
    """Every eviction as the API server's dry run: which would be let go now.

    Raises:
        ToolError: ``forbidden`` to the caller; the cluster is not there.
    """
    gate = asyncio.Semaphore(EVICTIONS_AT_ONCE)

    async def attempt(pod: NodePod) -> Going:
        if pod.stopping:
            return Going(pod, "stopping")
        async with gate:
            try:
                await evict(api, pod, dry_run=True)
            except ToolError as error:
                if error.code in (ErrorCode.FORBIDDEN, ErrorCode.BACKEND_UNAVAILABLE):
                    raise
                if error.code in (ErrorCode.NOT_FOUND, ErrorCode.CONFLICT):
                    return Going(pod, "gone")
                held = error.details.get("disruption_budget")
                return Going(pod, "blocked" if held else "refused", str(held or error.message))
        return Going(pod, "goes")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(attempt(pod)) for pod in pods]
    return [task.result() for task in tasks]


class Drain:
    """One drain under way. Each pod is evicted once; what a budget or an overloaded server turned away is asked again.

    Args:
        pods: Those that are to go; no other is touched.
    """

    def __init__(self, api: ClusterApi, node: str, pods: Sequence[NodePod]) -> None:
        self.going = {pod.uid: Going(pod, "stopping" if pod.stopping else "waiting") for pod in pods}
        self.newcomers: list[str] = []
        self.lost_sight: str | None = None
        self._api, self._node = api, node
        self._stopped = False
        self._looks_failed = 0
        self._told, self._ticks = -1, 0

    @property
    def counts(self) -> DrainCounts:
        """How it stands."""
        fates: Counter[str] = Counter(going.fate for going in self.going.values())
        named = ("gone", "stopping", "blocked", "waiting", "refused", "unknown")
        return DrainCounts(total=len(self.going), **{name: fates[name] for name in named})

    @property
    def complete(self) -> bool:
        """Every pod that was to go is gone."""
        return all(going.fate == "gone" for going in self.going.values())

    def left(self) -> list[DrainedPod]:
        """The pods that are not gone, what stands in the way first."""
        there = [going for going in self.going.values() if going.fate != "gone"]
        there.sort(key=lambda going: (ORDER.index(going.fate), going.pod.key))
        return [going.row() for going in there]

    async def run(self, ctx: Context[Any], ends: float) -> None:
        """Until every pod is gone or known not to go, or the time (monotonic) is over. Progress is told meanwhile.

        Raises:
            CancelledError: no further pod is asked; what was asked already has its answer or counts as unknown.
        """
        while True:
            await self._ask(ends)
            await self._look()
            await self._tell(ctx)
            if self.lost_sight or all(going.settled for going in self.going.values()):
                return
            if time.monotonic() + LOOK_EVERY_S > ends:
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _ask(self, ends: float) -> None:
        now = time.monotonic()
        due = [g for g in self.going.values() if g.fate in ("waiting", "blocked") and g.again_at <= now]
        if not due:
            return
        gate = asyncio.Semaphore(EVICTIONS_AT_ONCE)
        asked = [asyncio.create_task(self._evict(going, gate, ends)) for going in due]
        try:
            await asyncio.wait(asked)
        except asyncio.CancelledError:
            self._stopped = True
            _, unanswered = await asyncio.wait(asked, timeout=STOP_S)
            for task in unanswered:
                task.cancel()
            raise
        for task in asked:
            task.result()

    async def _evict(self, going: Going, gate: asyncio.Semaphore, ends: float) -> None:
        async with gate:
            left_s = ends - time.monotonic()
            if self._stopped or left_s <= 0:
                return
            going.fate, going.reason = "unknown", "asked to go, and no answer came"
            try:
                await evict(self._api.within(left_s + ANSWER_S), going.pod, dry_run=False)
            except ToolError as error:
                _judge(going, error)
            else:
                going.fate, going.reason = "stopping", None

    async def _look(self) -> None:
        try:
            there = {pod.uid: pod for pod in await pods_on(self._api, self._node)}
        except ToolError as error:
            self._looks_failed += 1
            if self._looks_failed >= LOOKS_FAILED_MAX or not error.retryable:
                self.lost_sight = error.message
            return
        self._looks_failed = 0
        for uid, going in self.going.items():
            going.looks += going.fate == "unknown"
            if uid not in there:
                going.fate, going.reason = "gone", None
            elif there[uid].stopping:
                going.fate, going.reason = "stopping", None
        self.newcomers = [
            pod.key for uid, pod in there.items() if uid not in self.going and not pod.stays and pod.part != "finished"
        ]

    async def _tell(self, ctx: Context[Any]) -> None:
        """Progress must rise to be told, also while everything waits: by ever smaller parts of a step."""
        counts = self.counts
        steps = 2 * counts.gone + counts.stopping
        self._ticks = self._ticks + 1 if steps == self._told else 0
        self._told = steps
        held = next((g.reason for g in self.going.values() if g.fate == "blocked" and g.reason), "")
        message = counts.to_text() + (f": {held}" if held else "")
        await ctx.progress(steps + 1 - 1 / (1 + self._ticks), 2 * counts.total, message)


def _judge(going: Going, error: ToolError) -> None:
    """What a refused eviction means for a pod. Only what is known not to have happened is asked again."""
    held = error.details.get("disruption_budget")
    passing = error.code in (ErrorCode.NOT_FOUND, ErrorCode.CONFLICT, ErrorCode.BACKEND_UNAVAILABLE)
    if held:
        going.fate, going.reason = "blocked", str(held)
    elif error.executed is Executed.UNKNOWN:
        going.fate, going.reason = "unknown", error.message
    elif passing:  # the next look says whether it is gone
        going.fate, going.reason = "waiting", error.message
    else:
        going.fate, going.reason = "refused", error.message
    going.again_at = time.monotonic() + ASK_AGAIN_S
