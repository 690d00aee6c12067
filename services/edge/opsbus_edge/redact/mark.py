"""What stands in the record in place of a hidden value. Equal values have equal marks; nobody without the key can tell
which value it was, nor try guesses."""

import hashlib
import hmac
from typing import Any

import orjson

HIDDEN = "[redacted]"
"""Without a key there is nothing to recognise by."""
KEY_BYTES_MIN = 32
_MARK_HEX = 16
_VALUE = b"opsbus.redacted.value.v1\0"
_ARGUMENTS = b"opsbus.redacted.arguments.v1\0"


class DigestKey:
    """Makes marks. Every edge of a platform has the same key, or equal values are not recognised across edges.

    Args:
        secret: At least 32 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < KEY_BYTES_MIN:
            raise ValueError(f"a key of redaction has at least {KEY_BYTES_MIN} bytes, this one has {len(secret)}")
        self._secret = secret

    def mark(self, value: Any) -> str:
        """``[redacted 1f2e3d4c5b6a7988]``."""
        try:
            data = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # a number beyond 64 bits
            data = repr(value).encode()
        return f"[redacted {self._digest(_VALUE, data)[:_MARK_HEX]}]"

    def arguments(self, raw: bytes) -> str:
        """Digest of arguments of which something is hidden: a plain one would let guesses be tried."""
        return f"hmac-sha256:{self._digest(_ARGUMENTS, raw)}"

    def _digest(self, kind: bytes, data: bytes) -> str:
        return hmac.new(self._secret, kind + data, hashlib.sha256).hexdigest()
