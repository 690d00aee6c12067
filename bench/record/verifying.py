"""One verification in a process of its own, so that time and memory are its own: ``FOLDER KEY PROCESSES``."""

import json
import resource
import sys
from pathlib import Path

from opsbus_audit.proof.note import read_key
from opsbus_audit.proof.offline import verify_folder


def main(folder: str, key: str, processes: str) -> None:
    """Print what was found and used, as JSON. Of the helpers' memory the largest one's is known, and that is at least
    what this process had when it started them.
    """
    report = verify_folder(Path(folder), [read_key(key)], processes=int(processes))
    own, helpers = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    found = {
        "ok": report.ok,
        "events": report.events,
        "seconds": report.seconds,
        "cpu_s": {"own": own.ru_utime + own.ru_stime, "helpers": helpers.ru_utime + helpers.ru_stime},
        "mb": {"own": _most_mb(own), "helper": helpers.ru_maxrss / 1024},
    }
    print(json.dumps(found))


def _most_mb(used: resource.struct_rusage) -> float:
    """Most memory of this program; the kernel's other count begins with that of the one that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return used.ru_maxrss / 1024
    return next(int(one.split()[1]) for one in status.read_text().splitlines() if one.startswith("VmHWM")) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
