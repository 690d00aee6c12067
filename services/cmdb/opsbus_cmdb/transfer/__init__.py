"""Inventories in and out of the embedded store as files: JSON, and CSV with one kind of record a file."""
