"""What edges put into the bucket TASKS, sealed: who reads the bucket alone sees no result, question or answer.

AES-256-GCM under a key that is derived from the edges' seal keys for this purpose alone. What is sealed is bound to its
place in the bucket. What was put in the clear, by an earlier version or an edge without a key, is read all the same.
"""

import base64
import secrets
from collections.abc import Sequence
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_MARK = b"\x00ob1"
"""No JSON begins like this."""
_KID = 4
_NONCE = 12
_INFO = b"opsbus: tasks in the bus"


class UnreadableError(Exception):
    """It was sealed with a key that this edge does not have, for another place, or was changed."""


class TaskSeal:
    """Seals and opens.

    Args:
        keys: Secrets of 32 bytes or more; the first seals, all open. None at all: what is put lies in the clear.
    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self._ring: dict[bytes, AESGCM] = {}
        self._first = b""
        for secret in keys:
            key = HKDF(algorithm=SHA256(), length=32, salt=None, info=_INFO).derive(secret)
            kid = sha256(_INFO + key).digest()[:_KID]
            self._ring[kid] = AESGCM(key)
            self._first = self._first or kid

    @property
    def seals(self) -> bool:
        """Whether there is a key."""
        return bool(self._ring)

    def seal(self, data: bytes, place: str) -> bytes:
        """What is put at a key of the bucket."""
        if not self._ring:
            return data
        nonce, head = secrets.token_bytes(_NONCE), _MARK + self._first
        return head + nonce + self._ring[self._first].encrypt(nonce, data, head + place.encode())

    def open(self, data: bytes, place: str) -> bytes:
        """What was given to ``seal``; what is not sealed as it is.

        Raises:
            UnreadableError: it cannot be opened.
        """
        if not data.startswith(_MARK):
            return data
        head, rest = data[: len(_MARK) + _KID], data[len(_MARK) + _KID :]
        box = self._ring.get(head[len(_MARK) :])
        if box is None:
            raise UnreadableError("no such key")
        try:
            return box.decrypt(rest[:_NONCE], rest[_NONCE:], head + place.encode())
        except (InvalidTag, ValueError):
            raise UnreadableError("it was changed") from None

    def seal_text(self, data: bytes, place: str) -> str:
        """The same in letters."""
        return base64.b64encode(self.seal(data, place)).decode()

    def open_text(self, text: str, place: str) -> bytes:
        """What was given to ``seal_text``.

        Raises:
            UnreadableError: it cannot be opened.
        """
        try:
            return self.open(base64.b64decode(text, validate=True), place)
        except ValueError:
            raise UnreadableError("it was changed") from None
