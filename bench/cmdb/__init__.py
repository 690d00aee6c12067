"""The CMDB at 100,000 assets: what its tools ask, timed on SQLite and PostgreSQL."""
