"""Generated names: the suffixes of pods and replica sets, and the hash of a pod template."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any

# The alphabet Kubernetes uses: no vowels and no look-alikes, so that no word appears by chance.
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def random_suffix(source: random.Random, length: int = 5) -> str:
    """A suffix for `metadata.generateName`."""
    return "".join(source.choice(_ALPHABET) for _ in range(length))


def template_hash(template: dict[str, Any]) -> str:
    """The `pod-template-hash` of a pod template. Equal templates have equal hashes; the label itself is left out."""
    canonical = json.dumps(without_hash(template), sort_keys=True, separators=(",", ":"))
    number = zlib.crc32(canonical.encode())
    return "".join(_ALPHABET[ord(digit) % len(_ALPHABET)] for digit in str(number))


def without_hash(template: dict[str, Any]) -> dict[str, Any]:
    """The template without the label the deployment controller adds."""
    labels = {k: v for k, v in template.get("metadata", {}).get("labels", {}).items() if k != "pod-template-hash"}
    meta = {k: v for k, v in template.get("metadata", {}).items() if k not in ("labels", "creationTimestamp")}
    return {**template, "metadata": {**meta, "labels": labels}}
