"""The sub-commands of ``opsbus``, a file each. Their top level imports typer alone: ``--help`` stays quick."""
