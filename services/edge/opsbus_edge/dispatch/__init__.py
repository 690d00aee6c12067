"""From the edge to a worker and back, over core NATS: one inbox, attempts, fail-over, the truth about the outcome."""

from opsbus_edge.dispatch.dispatcher import Dispatcher
from opsbus_edge.dispatch.order import Order

__all__ = ["Dispatcher", "Order"]
