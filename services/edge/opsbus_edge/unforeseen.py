"""Hex digits that nobody can foresee. The system is asked for many at a time: it is a call of the kernel for each."""

import secrets

_BYTES = 4_096
_left = ""


def hex_digits(count: int) -> str:
    """So many random digits, at most 8,192; none is given out twice."""
    global _left
    if len(_left) < count:
        _left = secrets.token_hex(_BYTES)
    found, _left = _left[:count], _left[count:]
    return found
