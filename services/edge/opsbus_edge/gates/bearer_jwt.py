"""One way to prove an identity: a bearer JWT, HS256 or EdDSA, signed by a key the settings name."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from opsbus_edge.gates.claims import ROLES_MAX, subject_of
from opsbus_edge.gates.proof import Proven, refuse
from opsbus_edge.model import NO_PEER, Denied, Peer

CACHE_MAX = 10_000
REMEMBER_S = 60.0
"""A verified token is believed this long without being verified again; never beyond its expiry."""
TOKEN_CHARS_MAX = 8_192
_LEEWAY_S = 5.0
SIGNATURE = "the token's signature does not hold"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A key and the one algorithm it is for: a token does not choose."""

    algorithm: str
    """``HS256`` or ``EdDSA``."""
    key: bytes | Ed25519PublicKey


class BearerJwt:
    """Verifies ``Authorization: Bearer`` and remembers for a minute what held."""

    def __init__(self, keys: list[TrustedKey], issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._verified: OrderedDict[bytes, tuple[float, Proven]] = OrderedDict()

    async def __call__(self, headers: Mapping[str, str], peer: Peer = NO_PEER) -> Proven | Denied | None:
        """Who the token speaks for; None when there is no bearer token."""
        value = headers.get("authorization", "")
        scheme, _, token = value.partition(" ")
        if not value:
            return None
        if scheme.lower() != "bearer" or not token.strip():
            return refuse("the Authorization header must be: Bearer <token>", "invalid_request")
        return self._verify(token.strip())

    def _verify(self, token: str) -> Proven | Denied:
        if len(token) > TOKEN_CHARS_MAX:
            return refuse("the token is too long")
        digest = hashlib.sha256(token.encode()).digest()
        now = time.time()
        known = self._verified.get(digest)
        if known is not None and now < known[0]:
            return known[1]
        found = self._decode(token)
        if isinstance(found, Denied):
            self._verified.pop(digest, None)
            return found
        proven, expires = found
        self._verified[digest] = (min(now + REMEMBER_S, expires), proven)
        self._verified.move_to_end(digest)
        if len(self._verified) > CACHE_MAX:
            self._verified.popitem(last=False)
        return proven

    def _decode(self, token: str) -> tuple[Proven, float] | Denied:
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
        except jwt.InvalidTokenError:
            return refuse("the token is no JWT")
        candidates = [key for key in self._keys if key.algorithm == algorithm]
        if not candidates:
            return refuse("the token is not signed by an algorithm that is accepted here")
        denied = refuse(SIGNATURE)
        for trusted in candidates:
            claims = decode(token, trusted.key, trusted.algorithm, self._issuer, self._audience, _LEEWAY_S)
            if not isinstance(claims, Denied):
                return _proven(claims)
            if claims.error.message != SIGNATURE:
                return claims
        return denied


def decode(
    token: str, key: Any, algorithm: str, issuer: str, audience: str, leeway_s: float
) -> dict[str, Any] | Denied:
    """The claims of a token that holds, by one key and the one algorithm it is for."""
    try:
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=audience,
            issuer=issuer,
            leeway=leeway_s,
            options={"require": ["exp", "sub", "iss", "aud"]},
        )
    except jwt.InvalidSignatureError:
        return refuse(SIGNATURE)
    except jwt.ExpiredSignatureError:
        return refuse("the token has expired", hint="Get a new one.")
    except jwt.ImmatureSignatureError:
        return refuse("the token is not valid yet")
    except jwt.InvalidAudienceError:
        return refuse("the token is meant for another audience")
    except jwt.InvalidIssuerError:
        return refuse("the token comes from an issuer that is not trusted here")
    except jwt.MissingRequiredClaimError as error:
        return refuse(f"the token lacks the claim {error.claim!r}")
    except jwt.InvalidTokenError:
        return refuse("the token does not hold")


def _proven(claims: dict[str, Any]) -> tuple[Proven, float] | Denied:
    sub, roles = subject_of(claims), claims.get("roles", [])
    if isinstance(sub, Denied):
        return sub
    if (
        not isinstance(roles, list)
        or len(roles) > ROLES_MAX
        or not all(isinstance(role, str) and 0 < len(role) <= 64 for role in roles)
    ):
        return refuse(f"the token's roles must be a list of at most {ROLES_MAX} names")
    return Proven(sub, tuple(sorted(set(roles))), "jwt"), float(claims["exp"]) + _LEEWAY_S
