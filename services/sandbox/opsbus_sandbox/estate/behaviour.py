"""How the software of the estate behaves once it runs: when it is ready, what kills it, how it ends."""

from __future__ import annotations

import itertools
import random
from typing import Any

from opsbus_sandbox.estate.images import split_image
from opsbus_sandbox.kube.quantity import parse_quantity
from opsbus_sandbox.kube.runtime import RunPlan

Obj = dict[str, Any]

_MIB = 2**20
# The memory each program needs at its usual load, in MiB. A lower limit gets it killed.
_NEEDS_MIB = {
    "cart": 110, "catalog": 180, "checkout": 150, "frontend": 90, "ledger": 170, "payments-api": 140,
    "postgres": 300, "recommendations": 700, "redis": 60,
}  # fmt: skip
# Since v2.4.1 checkout restores all open carts into memory when it starts, which takes this much within a minute.
LEAK_MIB = 300


def run_plan(pod: Obj, container: Obj, restart: int) -> RunPlan:
    """What the next run of a container will do, the same each time it is asked."""
    seed = f"{pod['metadata'].get('namespace')}/{pod['metadata']['name']}/{container['name']}/{restart}"
    dice = random.Random(seed)  # noqa: S311 - a story, not a secret
    ready = dice.uniform(1.0, 3.0)
    repository, _ = split_image(container["image"])
    name = repository.rsplit("/", 1)[-1]
    if name == "crasher":
        code = int(_env(container).get("EXIT_CODE", "1"))
        return RunPlan(ready, 2.0, code, "Error", "")
    if name == "task":
        return RunPlan(ready, dice.uniform(2.0, 4.0))
    if name in ("busybox", "alpine"):
        return _shell(container, ready)
    limit = _memory_limit_mib(container)
    if limit is None:
        return RunPlan(ready)
    if limit < _NEEDS_MIB.get(name, 0):
        return RunPlan(ready, dice.uniform(2.0, 4.0), 137, "OOMKilled")
    if leaks(container) and limit < LEAK_MIB:
        # It is killed while it still restores the open carts, so it is never ready.
        return RunPlan(90.0, dice.uniform(34.0, 47.0), 137, "OOMKilled")
    return RunPlan(ready)


def leaks(container: Obj) -> bool:
    """Whether this is the checkout that keeps whole carts in memory."""
    repository, tag = split_image(container["image"])
    return repository.endswith("/checkout") and tag == "v2.4.1" and _env(container).get("CART_SNAPSHOT") == "inline"


def _env(container: Obj) -> dict[str, str]:
    return {entry["name"]: str(entry.get("value", "")) for entry in container.get("env") or []}


def _memory_limit_mib(container: Obj) -> float | None:
    limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    return None if limit is None else float(parse_quantity(limit)) / _MIB


def _shell(container: Obj, ready: float) -> RunPlan:
    """A shell image does what its command says, as far as `sleep` and `exit` go; without one it ends at once."""
    words = [*(container.get("command") or []), *(container.get("args") or [])]
    text = " ".join(words)
    if not words or text in ("sh", "true", "/bin/true"):
        return RunPlan(ready, 0.5)
    if text in ("false", "/bin/false"):
        return RunPlan(ready, 0.5, 1, "Error")
    seconds = _after(text, "sleep")
    code = _after(text, "exit")
    if seconds is None and code is None and "echo" not in text:
        return RunPlan(ready)
    ends_in = max(seconds or 0.0, 0.5)
    return RunPlan(ready, ends_in, int(code or 0), "Error" if code else "Completed")


def _after(text: str, word: str) -> float | None:
    """The number that follows a word of a command line."""
    words = text.replace(";", " ").split()
    for first, second in itertools.pairwise(words):
        if first == word and second.rstrip("s").isdigit():
            return float(second.rstrip("s"))
    return None
