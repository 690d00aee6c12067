"""Workers that answer the load."""
