"""Making nkeys: the seed a process proves its identity with, and the public key the server knows.

Using them is nats_client.py's.
"""

import os
from pathlib import Path
from typing import NamedTuple

import nkeys


class UserKey(NamedTuple):
    """An nkey of a user."""

    seed: str
    """``SU...``: secret."""
    public: str
    """``U...``: for the server's configuration."""


def new_user() -> UserKey:
    """A new key."""
    seed = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()
    return UserKey(seed, public_of(seed))


def public_of(seed: str) -> str:
    """The public key of a seed.

    Raises:
        ValueError: no seed.
    """
    try:
        pair = nkeys.from_seed(bytearray(seed.strip().encode()))
        public = bytes(pair.public_key).decode()
        pair.wipe()
    except Exception as error:
        raise ValueError("no nkey seed") from error
    return public


def load_or_create(path: Path) -> UserKey:
    """The key whose seed is in a file that only its owner can read; made when it is not there.

    Raises:
        ValueError: the file holds no seed.
    """
    if path.exists():
        seed = path.read_text(encoding="ascii").strip()
        return UserKey(seed, public_of(seed))
    key = new_user()
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(key.seed + "\n")
    return key
