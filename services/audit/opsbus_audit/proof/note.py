"""Signed notes (C2SP signed-note) and their Ed25519 keys; cosignatures of witnesses (C2SP tlog-cosignature, v1).

What a checkpoint says is checkpoint.py's matter.
"""

import base64
import binascii
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = 1
COSIGNATURE = 4
NOTE_BYTES_MAX = 1_000_000
SIGNATURES_MAX = 100

_DASH = "\u2014 "


class NoteError(Exception):
    """A note or key cannot be used; one line."""


@dataclass(frozen=True)
class VerifierKey:
    """A public key with its name: ``name+hash+base64``."""

    name: str
    kind: int
    raw: bytes

    @property
    def id(self) -> bytes:
        """Four bytes that tell it from others of the name."""
        return sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.raw).digest()[:4]

    def __str__(self) -> str:
        encoded = base64.b64encode(bytes([self.kind]) + self.raw).decode()
        return f"{self.name}+{self.id.hex()}+{encoded}"

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """Reads ``str(key)``.

        Raises:
            NoteError: it is no Ed25519 verifier key, or damaged.
        """
        parts = text.strip().split("+", 2)
        if len(parts) != 3 or not _is_name(parts[0]):
            raise NoteError("a verifier key looks like name+0123abcd+base64")
        raw = _decode(parts[2])
        if len(raw) != 33 or raw[0] not in (ED25519, COSIGNATURE):
            raise NoteError("the verifier key holds no Ed25519 key")
        key = cls(parts[0], raw[0], raw[1:])
        if key.id.hex() != parts[1]:
            raise NoteError("the verifier key is damaged: its hash is not that of its bytes")
        return key

    def verify(self, text: bytes, signature: bytes) -> None:
        """Raises:
        NoteError: the signature is not this key's over the text.
        """
        signed, body = signature, text
        if self.kind == COSIGNATURE:
            if len(signature) != 72:
                raise NoteError(f"the cosignature of {self.name} has the wrong length")
            (stamp,) = struct.unpack(">Q", signature[:8])
            signed, body = signature[8:], _cosigned(stamp, text)
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signed, body)
        except (InvalidSignature, ValueError):
            raise NoteError(f"the signature of {self.name} does not hold") from None


@dataclass(frozen=True)
class SigningKey:
    """A private key with its name; ``kind`` ED25519 signs notes, COSIGNATURE is a witness's."""

    name: str
    private: Ed25519PrivateKey
    kind: int = ED25519

    @classmethod
    def load(cls, name: str, path: Path, kind: int = ED25519) -> "SigningKey":
        """From an unencrypted PEM file.

        Raises:
            NoteError: there is none, or the name cannot be one.
        """
        if not _is_name(name):
            raise NoteError(f"{name!r} cannot name a key: no spaces, no plus sign")
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise NoteError(f"{path} cannot be read: {error.strerror}") from None
        except (TypeError, ValueError):
            raise NoteError(f"{path} holds no unencrypted private key in PEM") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise NoteError(f"{path} holds no Ed25519 key")
        return cls(name, key, kind)

    @property
    def public(self) -> VerifierKey:
        """What verifies its signatures."""
        return VerifierKey(self.name, self.kind, self.private.public_key().public_bytes_raw())

    def sign(self, text: str, now: int | None = None) -> str:
        """The signature line over a note's text; a cosignature says when. ``now``: Unix seconds."""
        body = text.encode()
        if self.kind == COSIGNATURE:
            stamp = int(time.time()) if now is None else now
            signature = struct.pack(">Q", stamp) + self.private.sign(_cosigned(stamp, body))
        else:
            signature = self.private.sign(body)
        return f"{_DASH}{self.name} {base64.b64encode(self.public.id + signature).decode()}\n"


@dataclass(frozen=True)
class Note:
    """A note: the text, and its signature lines."""

    text: str
    signatures: str

    def __str__(self) -> str:
        return f"{self.text}\n{self.signatures}"

    @classmethod
    def parse(cls, given: bytes | str) -> "Note":
        """Reads a note; no signature is verified here.

        Raises:
            NoteError: it is none.
        """
        raw = given.encode() if isinstance(given, str) else given
        if len(raw) > NOTE_BYTES_MAX:
            raise NoteError("the note is too large")
        try:
            whole = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise NoteError("the note is no UTF-8") from None
        if any(ord(sign) < 0x20 and sign != "\n" for sign in whole):
            raise NoteError("the note has control characters")
        at = whole.rfind("\n\n")
        if at < 0 or not whole.endswith("\n"):
            raise NoteError("the note has no signatures")
        note = cls(whole[: at + 1], whole[at + 2 :])
        lines = note.signatures.splitlines()
        if not 0 < len(lines) <= SIGNATURES_MAX or not all(line.startswith(_DASH) for line in lines):
            raise NoteError("the note's signatures cannot be read")
        return note

    def verified(self, keys: Iterable[VerifierKey]) -> list[VerifierKey]:
        """Those of the keys that signed it.

        Raises:
            NoteError: a signature of one of them does not hold.
        """
        known = {(key.name, key.id): key for key in keys}
        found: list[VerifierKey] = []
        for line in self.signatures.splitlines():
            name, _, encoded = line.removeprefix(_DASH).partition(" ")
            blob = _decode(encoded)
            key = known.get((name, blob[:4]))
            if key is not None and key not in found:
                key.verify(self.text.encode(), blob[4:])
                found.append(key)
        return found

    def require(self, key: VerifierKey) -> None:
        """Raises:
        NoteError: this key did not sign it.
        """
        if not self.verified([key]):
            raise NoteError(f"{key.name} ({key.id.hex()}) did not sign it")

    def signed(self, *keys: SigningKey) -> "Note":
        """With signatures of these keys added."""
        return Note(self.text, self.signatures + "".join(key.sign(self.text) for key in keys))


def sign(text: str, keys: Sequence[SigningKey]) -> Note:
    """A note of a text that ends in a newline."""
    return Note(text, "".join(key.sign(text) for key in keys))


def read_key(given: str) -> VerifierKey:
    """A verifier key, or the file that holds one.

    Raises:
        NoteError: neither.
    """
    if "+" in given and not Path(given).exists():
        return VerifierKey.parse(given)
    try:
        text = Path(given).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoteError(f"{given} is no verifier key, and no file with one ({type(error).__name__})") from None
    return VerifierKey.parse(text)


def _cosigned(stamp: int, text: bytes) -> bytes:
    return b"cosignature/v1\ntime %d\n" % stamp + text


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(sign.isspace() for sign in name)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteError("this is no base64") from None
