"""Sub-commands that the edge adds to ``opsbus``. Their top level imports typer alone: ``--help`` stays quick."""
