"""The edge without its policy: whoever signed in may do everything."""

from typing import Any

from bench.edges.without import Part, run
from opsbus_edge import pipeline
from opsbus_edge.gates.authorize import Ruling
from opsbus_edge.gates.policy import Approval

_RULING = Ruling(None, "no policy", Approval.CONFIRM)


def allowed(*_: Any) -> Ruling:
    """Whatever it is."""
    return _RULING


PARTS: tuple[Part, ...] = ((pipeline, "authorize", allowed),)

if __name__ == "__main__":
    run(PARTS)
