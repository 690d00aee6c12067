"""What the figures were measured on. Names neither the machine nor its folders."""

import os
import platform
import re
import subprocess
from pathlib import Path

from opsbus.nats_server import NatsServerError, binary


def described() -> dict[str, str]:
    """By topic, each a few words."""
    return {
        "CPU": f"{_cores()} × {_cpu()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1024**3:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "Python": platform.python_version(),
        "nats-server": _nats_server(),
    }


def one_line(facts: dict[str, str]) -> str:
    """``2 × AMD EPYC, 24 GiB, Linux 6.1, x86_64, Python 3.11.7, nats-server 2.12.1``"""
    own = [facts["CPU"], facts["memory"], facts["system"]]
    return ", ".join([*own, *(f"{name} {facts[name]}" for name in ("Python", "nats-server"))])


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown CPU"


def _nats_server() -> str:
    try:
        said = subprocess.run([str(binary()), "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (NatsServerError, OSError, subprocess.TimeoutExpired):
        return "unknown"
    found = re.search(r"\d+\.\d+\.\d+\S*", said.stdout)
    return found[0] if found else "unknown"
