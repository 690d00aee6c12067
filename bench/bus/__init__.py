"""Load straight onto the bus, with no door before it."""
