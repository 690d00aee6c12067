"""How the kernel shares a busy machine's processors among the platform's processes. Linux alone; elsewhere nothing."""

import os
from pathlib import Path
from typing import Literal

Scheduling = Literal["batch", "normal"]


def ask_for(scheduling: Scheduling, process: int = 0) -> bool:
    """Tell the kernel how a process's threads, and those they start, are to be scheduled.

    ``batch``: being woken by a message, a thread waits for its turn instead of pushing the running one aside. A call
    wakes edge, bus and worker several times: with every processor busy, each finishes what it has in hand first, and
    does more in a turn. Needs no privilege.

    Args:
        scheduling: ``normal`` leaves all as it is.
        process: Its id; 0: this one's calling thread, which should be the first and only one.

    Returns:
        Whether it holds: a sandbox may forbid it.
    """
    if scheduling == "normal":
        return True
    if not hasattr(os, "SCHED_BATCH"):
        return False
    try:
        threads = [int(path.name) for path in Path(f"/proc/{process}/task").iterdir()] if process else [0]
        for thread in threads:
            os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    except OSError:
        return False
    return True
