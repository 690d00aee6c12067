"""The edge without its limits: no rates, by settings; no bounds of calls under way; nobody is shut out."""

from bench.edges.without import Part, passes, run
from opsbus_edge.gates.limit import ConcurrencyLimit
from opsbus_edge.gates.load import ServiceLoad
from opsbus_edge.gates.shut_out import ShutOut

SETTINGS = dict.fromkeys(("rate_global", "rate_caller", "rate_address", "rate_tools", "rate_tool_callers"), "")
PARTS: tuple[Part, ...] = (
    (ConcurrencyLimit, "enter", passes),
    (ConcurrencyLimit, "leave", passes),
    (ServiceLoad, "enter", passes),
    (ServiceLoad, "leave", passes),
    (ShutOut, "caller", passes),
    (ShutOut, "call", passes),
)

if __name__ == "__main__":
    run(PARTS, SETTINGS)
