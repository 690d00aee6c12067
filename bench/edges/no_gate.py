"""The edge without its gate: everybody is let in as the same admin, may do everything, as often as they like.

The record, the identity for the worker and the dispatch stay: the difference to the whole edge is what the gate costs.
"""

from collections.abc import Mapping
from typing import Any

from opsbus_contracts.errors import ErrorBody
from opsbus_edge import pipeline
from opsbus_edge.app import main
from opsbus_edge.dispatch.order import Target
from opsbus_edge.gates.authenticate import Authenticator
from opsbus_edge.gates.limit import ConcurrencyLimit
from opsbus_edge.gates.policy import Policy
from opsbus_edge.model import NO_PEER, Caller, Denied, Peer

EVERYBODY = Caller("bench@lab", ("admin",), ("*",), "none", "everybody")


async def _everybody(_: Authenticator, __: Mapping[str, str], ___: Peer = NO_PEER) -> Caller | Denied:
    return EVERYBODY


def _allowed(_: Policy, __: Caller, ___: Target) -> tuple[ErrorBody | None, str]:
    return None, "no gate"


def _enter(_: ConcurrencyLimit, __: Caller) -> ErrorBody | None:
    return None


def _leave(_: ConcurrencyLimit, __: Caller) -> None:
    return None


_OFF: tuple[tuple[Any, str, Any], ...] = (
    (Authenticator, "authenticate", _everybody),
    (pipeline, "authorize", _allowed),
    (ConcurrencyLimit, "enter", _enter),
    (ConcurrencyLimit, "leave", _leave),
)

if __name__ == "__main__":
    for place, name, replacement in _OFF:
        if not hasattr(place, name):
            raise SystemExit(f"bench: the edge has no {name} any more")
        setattr(place, name, replacement)
    main()
