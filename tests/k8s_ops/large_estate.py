"""A program: the practice estate with 5,000 pods more, of a thousand workloads, and 4,000 events about them."""

import asyncio
import copy
import json
import signal
import sys
from pathlib import Path

from opsbus_sandbox.app import serve
from opsbus_sandbox.clock import timestamp

PODS, NAMESPACES, WORKLOADS, EVENTS = 5_000, 40, 1_000, 4_000


async def main(folder: Path) -> None:
    """Serves until SIGTERM; ``ready.json`` says where."""
    estate = await serve(state_dir=folder / "estate", speed=0.1)
    store = estate.store
    space, pod = store.list("namespaces")[0], store.list("pods", "shop")[0]
    for number in range(NAMESPACES):
        made = copy.deepcopy(space)
        made["metadata"] = {"name": f"team-{number:02d}", "labels": {"team": str(number)}}
        store.create("namespaces", made)
    for number in range(PODS):
        workload = number % WORKLOADS
        made = copy.deepcopy(pod)
        made["metadata"] = {
            "name": f"service-{workload:04d}-7d9f8c5b4-{number:05d}",
            "namespace": f"team-{workload % NAMESPACES:02d}",
            "labels": {"app": f"service-{workload:04d}", "tier": "back" if number % 2 else "front"},
        }
        if number % 50 == 0:
            state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting"}}
            for status in made["status"].get("containerStatuses", []):
                status |= {"ready": False, "restartCount": 40, "state": state}
        store.create("pods", made)
    for number in range(EVENTS):
        name = f"service-{number % WORKLOADS:04d}-7d9f8c5b4-{number:05d}"
        namespace = f"team-{number % WORKLOADS % NAMESPACES:02d}"
        event = {
            "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "BackOff", "count": 3,
            "metadata": {"name": f"{name}.{number:x}", "namespace": namespace},
            "involvedObject": {"kind": "Pod", "namespace": namespace, "name": name},
            "message": "Back-off restarting failed container", "source": {"component": "kubelet"},
            "firstTimestamp": "2026-11-21T00:00:00Z", "lastTimestamp": timestamp(store.clock.now()),
        }  # fmt: skip
        store.create("events", event)
    (folder / "ready.new").write_text(json.dumps({"kubeconfig": str(estate.cluster.platform_kubeconfig)}))
    (folder / "ready.new").rename(folder / "ready.json")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await estate.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
