"""``python -m bench [suite ...]``: run suites, print their tables, keep their results."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine

from bench import door, gate, report
from bench.cmdb import tools as cmdb
from bench.load import LoadError
from bench.measure import Measure
from bench.record import ingest, replay, search, verify

Suite = Callable[[], Coroutine[None, None, list[Measure]]]
SUITES: dict[str, tuple[str, Suite]] = {
    "door": ("The front door beside others: calls per second (64 clients)", door.run),
    "gate": ("The gate: calls per second with it on, against off (64 clients)", gate.run),
    "ingest": ("The record: events per second from the stream into the store, against a bare pull", ingest.run),
    "replay": ("The record: events per second replayed, against a bare ordered consumer", replay.run),
    "verify": ("The record: events per second verified in an export of a million, against bare hashlib", verify.run),
    "search": ("The record: a search for each field in a million events, one after the other", search.run),
    "cmdb": ("The CMDB: its reading tools over the bus, 100,000 assets and 300,000 relationships", cmdb.run),
}


def main() -> int:
    """Run what was asked for, or everything."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("suite", nargs="*", metavar="suite", help="default: all")
    chosen = parser.parse_args().suite or list(SUITES)
    for name in chosen:
        title, run = SUITES[name]
        try:
            rows = asyncio.run(run())
        except LoadError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        report.show(title, rows)
        report.keep(name, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
