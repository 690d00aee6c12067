"""The tokens that ``opsbus up`` hands out: one per role, signed by a key of this machine, good for some hours."""

import time
from dataclasses import dataclass

import jwt

from opsbus.identity import Signer

ISSUER = "opsbus"
AUDIENCE = "opsbus"
ALGORITHM = "EdDSA"
ROLES = ("viewer", "operator", "admin")
LIFETIME_S = 12 * 3600.0
LIFETIME_MAX_S = 30 * 24 * 3600.0


@dataclass(frozen=True)
class LabToken:
    """A token and until when it is good."""

    role: str
    token: str
    expires_at: float
    """Unix seconds."""


def mint(signer: Signer, role: str, lifetime_s: float = LIFETIME_S, subject: str = "") -> LabToken:
    """A token for a role.

    Args:
        signer: The lab's key.
        role: A role of the edge's policy.
        lifetime_s: Seconds.
        subject: Who; ``<role>@lab`` unless given.

    Raises:
        ValueError: the lifetime is not within a minute and thirty days.
    """
    if not 60 <= lifetime_s <= LIFETIME_MAX_S:
        raise ValueError(f"a token lives between a minute and 30 days, not {lifetime_s:g} seconds")
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject or f"{role}@lab",
        "roles": [role],
        "iat": now,
        "exp": now + int(lifetime_s),
    }
    token = jwt.encode(claims, signer.private_key, algorithm=ALGORITHM)
    return LabToken(role, token, now + lifetime_s)
