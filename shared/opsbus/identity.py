"""Identity tokens: keys, minting (the edge), verifying (every worker). Where public keys are kept lives in keys.py."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, Field, ValidationError

from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode, Identity
from opsbus_contracts.identity import ALGORITHM, AUDIENCE, ISSUER, LIFETIME_S, Grant, audience

CACHE_MAX = 4096
"""Verified tokens remembered at most."""

TOKEN_BYTES_MAX = 16_000

REMEMBER_S = 30.0
"""A verified token is verified again after this long, so that a withdrawn key's tokens end: with keys.REMEMBER_S, a
minute after the withdrawal at the latest. Seconds."""

_LEEWAY_S = 10.0  # clocks of edge and worker may differ this much


class PublicKey(BaseModel):
    """A key as it stands in the bucket KEYS under ``identity.<kid>``."""

    kid: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    alg: str = ALGORITHM
    public_key_pem: str
    not_after: int | None = Field(default=None, description="Unix seconds; nothing is accepted later.")

    def load(self) -> Ed25519PublicKey:
        """The key itself.

        Raises:
            ValueError: no Ed25519 public key in PEM.
        """
        try:
            key = serialization.load_pem_public_key(self.public_key_pem.encode())
        except UnsupportedAlgorithm as error:
            raise ValueError(str(error)) from error
        if not isinstance(key, Ed25519PublicKey):
            raise ValueError("no Ed25519 key")
        return key


@dataclass(frozen=True)
class Signer:
    """Mints identity tokens: held by edges alone."""

    kid: str
    private_key: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> "Signer":
        """A new key; its id is made of the public part."""
        return cls.of(Ed25519PrivateKey.generate())

    @classmethod
    def of(cls, private_key: Ed25519PrivateKey) -> "Signer":
        """A signer with an existing key."""
        raw = private_key.public_key().public_bytes_raw()
        return cls(sha256(raw).hexdigest()[:16], private_key)

    @classmethod
    def from_pem(cls, pem: bytes) -> "Signer":
        """Reads what ``pem`` wrote.

        Raises:
            ValueError: no unencrypted Ed25519 private key in PEM.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(str(error)) from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("no Ed25519 private key")
        return cls.of(key)

    def pem(self) -> bytes:
        """The private key, PKCS 8 in PEM, not encrypted: for a file only the edge can read."""
        return self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def public(self, not_after: int | None = None) -> PublicKey:
        """The public part, for the bucket KEYS."""
        pem = self.private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return PublicKey(kid=self.kid, public_key_pem=pem.decode(), not_after=not_after)

    def mint(
        self,
        sub: str,
        *,
        permissions: list[str],
        roles: list[str] | None = None,
        grants: Sequence[Grant] = (),
        service: str = "",
        auth: str = "",
        client: str = "",
        record_as: str = "",
        lifetime_s: float = LIFETIME_S,
        now: float | None = None,
    ) -> str:
        """A token for the header ``Opsbus-Identity``.

        Args:
            service: The only one whose workers take it.
        """
        issued = time.time() if now is None else now
        identity = Identity(
            sub=sub,
            roles=roles or [],
            permissions=permissions,
            grants=list(grants),
            aud=audience(service) if service else AUDIENCE,
            auth=auth,
            client=client,
            record_as=record_as,
            iat=int(issued),
            exp=int(issued + lifetime_s),
        )
        return self.sign(identity)

    def sign(self, identity: Identity) -> str:
        """A token of exactly these claims."""
        return jwt.encode(identity.model_dump(), self.private_key, algorithm=ALGORITHM, headers={"kid": self.kid})


class Keys(Protocol):
    """Where a verifier finds public keys."""

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """The key, or None when there is none. Raises ToolError ``unavailable`` when that cannot be told."""


class Verifier:
    """Verifies identity tokens of one service; a verified one is remembered for REMEMBER_S, never beyond its expiry."""

    def __init__(self, keys: Keys, service: str) -> None:
        self._keys = keys
        self._audience = audience(service)
        self._verified: OrderedDict[str, tuple[Identity, float]] = OrderedDict()

    def known(self, token: str | None) -> Identity | None:
        """The caller of a token that was verified a moment ago and has not expired; costs a look-up."""
        found = self._verified.get(token) if token else None
        if found is None or token is None:
            return None
        identity, until = found
        if identity.exp <= time.time() or until <= time.monotonic():
            del self._verified[token]
            return None
        self._verified.move_to_end(token)
        return identity

    async def verify(self, token: str | None) -> Identity:
        """The caller.

        Raises:
            ToolError: ``unauthenticated``, or ``unavailable`` when the key cannot be fetched.
        """
        if not token:
            raise unauthenticated("the call carries no identity")
        known = self.known(token)
        if known is not None:
            return known
        identity = await self._check(token)
        self._verified[token] = identity, time.monotonic() + REMEMBER_S
        if len(self._verified) > CACHE_MAX:
            self._verified.popitem(last=False)
        return identity

    async def _check(self, token: str) -> Identity:
        if len(token) > TOKEN_BYTES_MAX:
            raise unauthenticated("the identity is too long")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise unauthenticated("the identity is no token") from None
        kid = header.get("kid")
        if header.get("alg") != ALGORITHM or not isinstance(kid, str):
            raise unauthenticated(f"the identity is not signed by {ALGORITHM} with a key id")
        key = await self._keys.get(kid)
        if key is None:
            raise unauthenticated(f"the identity is signed by a key that is not known: {kid[:64]!r}")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "iss", "aud"]},
            )
            return Identity.model_validate(claims)
        except jwt.ExpiredSignatureError:
            raise unauthenticated("the identity has expired") from None
        except jwt.InvalidAudienceError:
            raise unauthenticated(f"the identity is not for {self._audience}") from None
        except (jwt.InvalidTokenError, ValidationError) as error:
            raise unauthenticated(f"the identity does not hold: {type(error).__name__}") from None


def unauthenticated(message: str) -> ToolError:
    """The error of a call without a valid identity."""
    return ToolError(
        ErrorCode.UNAUTHENTICATED, message, hint="Calls come from an edge, which mints the identity of its caller."
    )
