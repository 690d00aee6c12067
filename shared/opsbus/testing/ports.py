"""Ports for servers of tests that are named before they listen, or listen again after a while."""

import random
import socket

_RANGE = (20_000, 32_000)
"""Below what systems give to whoever asks for any port: nobody gets one of these by chance in between."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on, and that stays free until somebody asks for this very one."""
    while True:
        port = random.randrange(*_RANGE)  # noqa: S311 - a scatter
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
