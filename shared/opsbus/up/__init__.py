"""``opsbus up``: the whole platform on one machine, as processes that start, are watched and stop together."""
