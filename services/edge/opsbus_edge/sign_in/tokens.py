"""The tokens this edge gives for a password, and believes: one way to prove an identity.

Their key is for nothing else. A token says of itself that it is one of these (``typ``), so that the other proofs of
bearer tokens need not know about it.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping

import jwt

from opsbus.identity import Signer
from opsbus_edge.gates.proof import Proven, refuse
from opsbus_edge.model import NO_PEER, Denied, Peer

ALGORITHM = "EdDSA"
AUDIENCE = "opsbus-edge"
ISSUER = "opsbus-edge/sign-in"
TYPE = "opsbus-session+jwt"
CACHE_MAX = 10_000
TOKEN_CHARS_MAX = 8_192
_LEEWAY_S = 5.0
_HINT = "Sign in again: 'opsbus login', or POST /auth/token."


class SessionTokens:
    """Signs and verifies.

    Args:
        signer: The key of ``token_key_file``.
        lifetime_s: How long a token is good.
    """

    def __init__(self, signer: Signer, lifetime_s: float) -> None:
        self._signer = signer
        self._public = signer.private_key.public_key()
        self.lifetime_s = int(lifetime_s)
        self._verified: OrderedDict[bytes, tuple[float, Proven]] = OrderedDict()

    def issue(self, sub: str, roles: tuple[str, ...]) -> str:
        """A token for somebody who has proved who he is."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": sub,
            "roles": list(roles),
            "iat": now,
            "exp": now + self.lifetime_s,
            "jti": secrets.token_hex(8),
        }
        headers = {"kid": self._signer.kid, "typ": TYPE}
        return jwt.encode(claims, self._signer.private_key, algorithm=ALGORITHM, headers=headers)

    async def __call__(self, headers: Mapping[str, str], peer: Peer = NO_PEER) -> Proven | Denied | None:
        """Whom the token speaks for; None when there is none of this kind."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_CHARS_MAX:
            return None
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._verified.get(digest)
        if known is not None and time.time() < known[0]:
            return known[1]
        return self._verify(token, digest)

    def _verify(self, token: str, digest: bytes) -> Proven | Denied | None:
        self._verified.pop(digest, None)
        try:
            if jwt.get_unverified_header(token).get("typ") != TYPE:
                return None
        except jwt.InvalidTokenError:
            return None  # other proofs say what is wrong with it
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=[ALGORITHM],
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            return refuse("the token has expired", hint=_HINT)
        except jwt.DecodeError as error:
            return (
                refuse("the token does not hold", hint=_HINT) if isinstance(error, jwt.InvalidSignatureError) else None
            )
        except jwt.InvalidTokenError:
            return refuse("the token does not hold", hint=_HINT)
        proven = Proven(claims["sub"], tuple(claims.get("roles", [])), "ldap")
        self._verified[digest] = float(claims["exp"]), proven
        if len(self._verified) > CACHE_MAX:
            self._verified.popitem(last=False)
        return proven
