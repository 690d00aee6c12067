"""Kubernetes quantities: `250m`, `512Mi`, `4`. Parsing, and the canonical text of a sum."""

from __future__ import annotations

import re
from decimal import Decimal

_SUFFIXES: dict[str, Decimal] = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
    "Pi": Decimal(2**50), "Ei": Decimal(2**60),
}  # fmt: skip
_FORM = re.compile(r"^([+-]?(?:\d+(?:\.\d*)?|\.\d+))([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i)?\Z", re.ASCII)


def parse_quantity(value: object) -> Decimal:
    """The number a quantity stands for (cores, bytes, items). Raises ValueError when it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"not a quantity: {value!r}")
    match = _FORM.match(str(value))
    if match is None:
        raise ValueError(f"not a quantity: {value!r}")
    digits, suffix = match.group(1), match.group(2) or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return Decimal(digits + suffix)
    return Decimal(digits) * _SUFFIXES[suffix]


def format_cpu(cores: Decimal) -> str:
    """`2` or `1250m`."""
    return str(int(cores)) if cores == cores.to_integral_value() else f"{int(cores * 1000)}m"


def format_bytes(amount: Decimal) -> str:
    """In the largest binary unit that divides it evenly."""
    whole = int(amount)
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        unit = int(_SUFFIXES[suffix])
        if whole and whole % unit == 0:
            return f"{whole // unit}{suffix}"
    return str(whole)
