"""Edge to edge: a session's request that landed on another edge than its owner. HTTP itself stays in the edge."""

from pydantic import Field

from opsbus_contracts.model import Message

HTTP = "Opsbus-Http"
"""Header of a request and of ``head``: the model of this file, as JSON in ASCII."""
SEQ = "Opsbus-Seq"
"""Header of every message of an answer: its number, from 1."""

PEER = "Opsbus-Peer"
"""Header of a request: a JWT (EdDSA, ``kid``) of PeerClaims, signed by the forwarding edge."""

HEAD = "head"
CHUNK = "chunk"
END = "end"
HEARTBEAT = "heartbeat"
"""What a message of an answer is, in ``Opsbus-Status``."""


class SessionRequest(Message):
    """``edge.<instance>.session``: an HTTP request for the owner.

    The message's body is the request's body; this model travels in the header ``Opsbus-Http``. Replies: one ``head``
    (SessionResponse in ``Opsbus-Http``), any number of ``chunk``, one ``end``; ``heartbeat`` between.
    """

    method: str = Field(max_length=16)
    path: str = Field(max_length=2048)
    headers: list[tuple[str, str]] = Field(max_length=200)
    client: str = Field(default="", description="Address of the HTTP client.")


class PeerClaims(Message):
    """What the forwarding edge vouches for: who was at the other end of the connection, for this one request.

    Signed by a key in the bucket KEYS: to publish on ``edge.<instance>.session`` is not enough to speak for anybody.
    """

    aud: str = Field(description="Instance of the owner.")
    exp: int = Field(description="Unix seconds.")
    digest: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of Opsbus-Call, head and body, NUL between.")
    address: str = Field(default="", max_length=64, description="IP address of the HTTP client.")
    certificate: str = Field(
        default="", max_length=32_768, description="Client certificate that TLS verified: DER in base64; empty: none."
    )


class SessionResponse(Message):
    """Status and headers of the owner's answer."""

    status: int = Field(ge=100, le=599)
    headers: list[tuple[str, str]]
