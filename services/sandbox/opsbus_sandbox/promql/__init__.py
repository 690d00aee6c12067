"""PromQL over an in-memory database: parsed by ``promql-parser``, evaluated here over a documented subset.

No HTTP, no estate: whoever gives a database gets answers.
"""
