"""Which ports the platform listens on, on this machine only."""

import socket
from pathlib import Path

from opsbus.up.folder import read_json, write_json

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on it now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free() -> int:
    """A port that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def remembered(path: Path, name: str) -> int:
    """The port used the last time under this name when it is free, else another one, remembered."""
    known = read_json(path) or {}
    port = known.get(name)
    if isinstance(port, int) and 0 < port < 65_536 and is_free(port):
        return port
    port = free()
    while port in known.values():
        port = free()
    write_json(path, {**known, name: port})
    return port
