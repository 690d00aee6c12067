"""``python -m opsbus``: the same as the command ``opsbus``."""

from opsbus.cli import main

main()
