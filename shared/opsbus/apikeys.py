"""API keys: how one is made, written down, checked and given an end. Keeping them: apikey_store.py.

The key is ``opsbus_<id>_<secret>``: the id finds the record, the secret is 256 random bits in hex. Whoever makes a key
shows it once; what is kept is the secret's SHA-256. A slow hash would add nothing: nobody guesses 256 bits.
"""

import hmac
import re
import secrets
import string
from enum import StrEnum
from hashlib import sha256
from typing import NamedTuple

from opsbus_contracts.access import ApiKey

PREFIX = "opsbus_"
ID_CHARS = 12
_ALPHABET = string.ascii_lowercase + string.digits
_KEY = re.compile(r"opsbus_([a-z0-9]{12})_([0-9a-f]{64})", re.ASCII)
_NOBODY = "0" * 64


class State(StrEnum):
    """What an API key is good for at a moment."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


class Presented(NamedTuple):
    """A key that a client sent, in its parts."""

    id: str
    secret: str


def new_id() -> str:
    """An id that nobody has."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(ID_CHARS))


def new_secret() -> str:
    """256 random bits in hex."""
    return secrets.token_hex(32)


def shown(id: str, secret: str) -> str:
    """The key as its owner gets it, once."""
    return f"{PREFIX}{id}_{secret}"


def parse(text: str) -> Presented | None:
    """The parts of a key; None: it has not the form of one."""
    found = _KEY.fullmatch(text)
    return Presented(found[1], found[2]) if found else None


def digest(secret: str) -> str:
    """What is kept of a secret: SHA-256 in hex."""
    return sha256(secret.encode("ascii")).hexdigest()


def proves(key: ApiKey | None, secret: str, now: float) -> bool:
    """Whether the secret is the key's, or the one before within its grace. Takes the same time for every answer."""
    sent = digest(secret)
    current = hmac.compare_digest(sent, key.digest if key else _NOBODY)
    previous = hmac.compare_digest(sent, (key.previous_digest if key else "") or _NOBODY)
    return key is not None and (current or (previous and bool(key.previous_digest) and now < key.previous_until))


def state(key: ApiKey, now: float) -> State:
    """What the key is good for."""
    if key.revoked:
        return State.REVOKED
    return State.EXPIRED if key.expires and now >= key.expires else State.ACTIVE
