"""The practice estate: the backends a laptop lacks, each spoken to over its real HTTP API."""
