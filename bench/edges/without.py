"""Runs the edge with something taken out: by a setting where there is one, else by replacing a part of it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

Part = tuple[Any, str, Any]
"""Where, its name there, and what takes its place."""


def check(parts: Sequence[Part]) -> None:
    """Whether all of them are still there: a part that was renamed would be measured as if it were out.

    Raises:
        SystemExit: one is not.
    """
    for place, name, _ in parts:
        if not hasattr(place, name):
            raise SystemExit(f"bench: {place.__name__} has no {name} any more")


def run(parts: Sequence[Part] = (), settings: Mapping[str, str] | None = None) -> None:
    """Run the edge.

    Args:
        parts: What is replaced.
        settings: Of the edge, by name; an empty one is taken away.
    """
    from opsbus_edge.app import main

    check(parts)
    for place, name, replacement in parts:
        setattr(place, name, replacement)
    for name, value in (settings or {}).items():
        for prefix in ("OPSBUS_EDGE_", "OPSBUS_", ""):
            os.environ.pop(f"{prefix}{name.upper()}", None)
        if value:
            os.environ[f"OPSBUS_EDGE_{name.upper()}"] = value
    main()


def passes(*_: Any) -> None:
    """Lets everything through."""


async def passes_later(*_: Any) -> None:
    """Lets everything through, for who waits for it."""
