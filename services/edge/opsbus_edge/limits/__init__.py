"""Rates that hold over all edges together: leased from the bus in chunks, spent here."""

from opsbus_edge.limits.leases import Leases
from opsbus_edge.limits.rate import Rate, rate_of

__all__ = ["Leases", "Rate", "rate_of"]
