"""One way to prove an identity: an access token of the company's identity provider, for this very resource.

Tokens of another issuer are left to the other ways. The token itself stays here: workers get an identity of the edge's.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import jwt

from opsbus_contracts.errors import ErrorCode
from opsbus_edge.gates.bearer_jwt import CACHE_MAX, REMEMBER_S, TOKEN_CHARS_MAX, decode
from opsbus_edge.gates.claims import provider_proven
from opsbus_edge.gates.jwks import Jwks, KeysUnavailableError
from opsbus_edge.gates.proof import Proven, refuse
from opsbus_edge.model import NO_PEER, Denied, Peer, error_body
from opsbus_edge.settings.oauth import OAuthSettings


class OAuthJwt:
    """Verifies a provider's tokens and remembers for a minute what held."""

    def __init__(self, settings: OAuthSettings, keys: Jwks) -> None:
        self._settings = settings
        self._keys = keys
        self._verified: OrderedDict[bytes, tuple[float, Proven]] = OrderedDict()

    async def __call__(self, headers: Mapping[str, str], peer: Peer = NO_PEER) -> Proven | Denied | None:
        """Who the token speaks for; None when it is none of the provider's."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > TOKEN_CHARS_MAX:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and time.time() < known[0]:
            return known[1]
        if not self._is_ours(token):
            return None
        found = await self._verify(token)
        if isinstance(found, Denied):
            self._verified.pop(digest, None)
            return found
        proven, expires = found
        self._verified[digest] = (min(time.time() + REMEMBER_S, expires), proven)
        if len(self._verified) > CACHE_MAX:
            self._verified.popitem(last=False)
        return proven

    def _is_ours(self, token: str) -> bool:
        try:
            claims = jwt.decode(token, options={"verify_signature": False})
        except (jwt.InvalidTokenError, ValueError):
            return False
        return claims.get("iss") == self._settings.oauth_issuer

    async def _verify(self, token: str) -> tuple[Proven, float] | Denied:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            return refuse("the token is no JWT")
        kid, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(kid, str) or "crit" in header:
            return refuse("the token's header is none that is accepted here")
        try:
            key = await self._keys.get(kid)
        except KeysUnavailableError:
            return _away()
        # The key says which algorithm it is for; the token does not choose.
        if key is None or key[0] != algorithm:
            return refuse("the token is not signed by a key of the provider")
        settings = self._settings
        claims: dict[str, Any] | Denied = decode(
            token, key[1], key[0], settings.oauth_issuer, settings.oauth_resource, settings.oauth_leeway_s
        )
        if isinstance(claims, Denied):
            return claims
        proven = provider_proven(
            claims, settings.oauth_role_claims, settings.oauth_roles, scoped=settings.oauth_scopes_required
        )
        if isinstance(proven, Denied):
            return proven
        return proven, float(claims["exp"]) + settings.oauth_leeway_s


def _away() -> Denied:
    error = error_body(
        ErrorCode.UNAVAILABLE,
        "the keys of the identity provider cannot be read at this moment",
        hint="Try again in a few seconds; the edge's log says what is wrong.",
        retry_after_ms=5_000,
    )
    return Denied(error, http_status=503)
