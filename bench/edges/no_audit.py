"""The edge without its record: no event is made, none is sent, and a write waits for none."""

from bench.edges.without import Part, passes, passes_later, run
from opsbus_edge.gates.record import Record

PARTS: tuple[Part, ...] = (
    (Record, "found", passes),
    (Record, "decided", passes),
    (Record, "requested", passes_later),
    (Record, "ended", passes),
)

if __name__ == "__main__":
    run(PARTS)
