"""The edge without its gate: everybody is let in as the same admin, may do everything, as often as they like.

The record, the identity for the worker and the dispatch stay: the difference to the whole edge is what the gate costs.
"""

from typing import Any

from opsbus_edge import pipeline
from opsbus_edge.app import main
from opsbus_edge.gates.authenticate import Authenticator
from opsbus_edge.gates.authorize import Ruling
from opsbus_edge.gates.limit import ConcurrencyLimit
from opsbus_edge.gates.load import ServiceLoad
from opsbus_edge.gates.policy import Approval
from opsbus_edge.gates.rates import RateLimits
from opsbus_edge.gates.shut_out import ShutOut
from opsbus_edge.model import Caller

EVERYBODY = Caller("bench@lab", ("admin",), ("*",), "none", "everybody")
_RULING = Ruling(None, "no gate", Approval.CONFIRM)


async def _everybody(*_: Any) -> Caller:
    return EVERYBODY


def _allowed(*_: Any) -> Ruling:
    return _RULING


def _passes(*_: Any) -> None:
    return None


async def _passes_later(*_: Any) -> None:
    return None


_OFF: tuple[tuple[Any, str, Any], ...] = (
    (Authenticator, "authenticate", _everybody),
    (pipeline, "authorize", _allowed),
    (ConcurrencyLimit, "enter", _passes),
    (ConcurrencyLimit, "leave", _passes),
    (ServiceLoad, "enter", _passes),
    (ServiceLoad, "leave", _passes),
    (RateLimits, "enter", _passes_later),
    (RateLimits, "address", _passes_later),
    (ShutOut, "caller", _passes),
    (ShutOut, "call", _passes),
)

if __name__ == "__main__":
    for place, name, replacement in _OFF:
        if not hasattr(place, name):
            raise SystemExit(f"bench: the edge has no {name} any more")
        setattr(place, name, replacement)
    main()
