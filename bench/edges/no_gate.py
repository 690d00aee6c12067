"""The edge without its gate: everybody is let in as the same admin, may do everything, as often as they like.

The record, the identity for the worker and the dispatch stay: the difference to the whole edge is what the gate costs.
"""

from typing import Any

from bench.edges import no_limits, no_policy
from bench.edges.without import Part, passes_later, run
from opsbus_edge.gates.authenticate import Authenticator
from opsbus_edge.gates.rates import RateLimits
from opsbus_edge.model import Caller

EVERYBODY = Caller("bench@lab", ("admin",), ("*",), "none", "everybody")


async def everybody(*_: Any) -> Caller:
    """The same one."""
    return EVERYBODY


PARTS: tuple[Part, ...] = (
    (Authenticator, "authenticate", everybody),
    (RateLimits, "enter", passes_later),
    (RateLimits, "address", passes_later),
    *no_limits.PARTS,
    *no_policy.PARTS,
)

if __name__ == "__main__":
    run(PARTS)
