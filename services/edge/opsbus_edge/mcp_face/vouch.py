"""One edge tells another who was at the other end of a connection, for one request. Contract: contracts/sessions.py."""

import base64
import time
from hashlib import sha256

import jwt
from pydantic import ValidationError

from opsbus.identity import Keys, Signer
from opsbus_contracts.identity import ALGORITHM
from opsbus_contracts.sessions import PeerClaims
from opsbus_edge.model import Peer

LIFETIME_S = 30
_LEEWAY_S = 10.0
TYPE = "opsbus-peer+jwt"
"""Of the header: no identity token passes for a voucher, and none the other way round."""


class NotVouchedError(Exception):
    """The voucher does not hold; the message says why."""


def vouch(signer: Signer, peer: Peer, owner: str, call: str, head: str, body: bytes) -> str:
    """The header ``Opsbus-Peer`` for the owner's instance."""
    claims = PeerClaims(
        aud=owner,
        exp=int(time.time()) + LIFETIME_S,
        digest=_digest(call, head, body),
        address=peer.address,
        certificate=base64.b64encode(peer.certificate or b"").decode(),
    )
    headers = {"kid": signer.kid, "typ": TYPE}
    return jwt.encode(claims.model_dump(), signer.private_key, algorithm=ALGORITHM, headers=headers)


async def vouched(keys: Keys, token: str, owner: str, call: str, head: str, body: bytes) -> Peer:
    """The peer a voucher names.

    Raises:
        NotVouchedError: it is not signed by an edge, has expired, or is for another request or edge.
        ToolError: ``unavailable``: the keys cannot be read.
    """
    try:
        header = jwt.get_unverified_header(token)
        key = await keys.get(str(header.get("kid", "")))
        if key is None or header.get("typ") != TYPE:
            raise NotVouchedError("it is signed by no key of an edge")
        claims = PeerClaims.model_validate(
            jwt.decode(token, key, algorithms=[ALGORITHM], audience=owner, leeway=_LEEWAY_S)
        )
        certificate = base64.b64decode(claims.certificate, validate=True)
    except (jwt.InvalidTokenError, ValidationError, ValueError) as error:
        raise NotVouchedError(type(error).__name__) from None
    if claims.digest != _digest(call, head, body):
        raise NotVouchedError("it is for another request")
    return Peer(claims.address, certificate or None)


def _digest(call: str, head: str, body: bytes) -> str:
    return sha256(b"\0".join((call.encode(), head.encode(), body))).hexdigest()
