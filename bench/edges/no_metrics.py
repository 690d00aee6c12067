"""The edge without its metrics: nothing is counted."""

from typing import Any

from bench.edges.without import Part, passes, run
from opsbus_edge.metrics import Metrics


class Nothing:
    """A metric that counts nothing."""

    def labels(self, *_: Any, **__: Any) -> "Nothing":
        """Itself, whatever the labels."""
        return self

    def inc(self, *_: Any) -> None:
        """Nothing."""

    dec = set = observe = set_function = inc


def nothing(*_: Any) -> Nothing:
    """In place of a counter, gauge or histogram."""
    return Nothing()


PARTS: tuple[Part, ...] = (
    (Metrics, "_counter", nothing),
    (Metrics, "_gauge", nothing),
    (Metrics, "_histogram", nothing),
    (Metrics, "request", passes),
    (Metrics, "tool_call", passes),
)

if __name__ == "__main__":
    run(PARTS)
