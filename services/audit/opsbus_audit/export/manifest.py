"""The manifest of an export and its signature: what was exported, and the digest of every file.

``manifest.sig`` holds the 64 bytes of an Ed25519 signature over the bytes of ``manifest.json``; openssl checks it:
``openssl pkeyutl -verify -pubin -inkey KEY.pub.pem -rawin -in manifest.json -sigfile manifest.sig``.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MANIFEST = "manifest.json"
SIGNATURE = "manifest.sig"
FORMAT = "opsbus-audit-export/1"


class KeyFileError(Exception):
    """The signing key cannot be used; one line."""


def signing_key(path: Path) -> Ed25519PrivateKey:
    """The key of a PEM file, made when there is none; its public part stands beside it as ``.pub.pem``.

    Raises:
        KeyFileError: the file holds no such key, or cannot be read or made.
    """
    try:
        if path.exists():
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        else:
            key = Ed25519PrivateKey.generate()
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(pem)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None
    except (ValueError, TypeError):
        raise KeyFileError(f"{path} holds no unencrypted private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} holds no Ed25519 key")
    public = path.with_suffix(".pub.pem")
    if not public.exists():
        public.write_bytes(_public_pem(key.public_key()))
    return key


def write_manifest(folder: Path, facts: dict[str, Any], key: Ed25519PrivateKey) -> bytes:
    """Write the manifest and its signature; gives the manifest's bytes."""
    raw = key.public_key().public_bytes_raw()
    signer = {"algorithm": "Ed25519", "public_key_sha256": hashlib.sha256(raw).hexdigest()}
    body = orjson.dumps({"format": FORMAT, **facts, "key": signer}, option=orjson.OPT_INDENT_2) + b"\n"
    for name, content in ((MANIFEST, body), (SIGNATURE, key.sign(body))):
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    return body


def described(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Size and digest of files that are there, as the manifest has them."""
    found = ((name, folder / name) for name in names)
    return {name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for name, path in found if path.exists()}


def problems(folder: Path, public: Ed25519PublicKey) -> list[str]:
    """What is wrong with an export: its signature, a file's digest, a file too many or too few. Empty: nothing."""
    body = (folder / MANIFEST).read_bytes()
    try:
        public.verify((folder / SIGNATURE).read_bytes(), body)
    except InvalidSignature:
        return [f"{SIGNATURE} is not this key's signature of {MANIFEST}"]
    files = orjson.loads(body)["files"]
    found = []
    for name, facts in files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is missing")
        elif _sha256(path) != facts["sha256"]:
            found.append(f"{name} was changed")
    known = {*files, MANIFEST, SIGNATURE}
    found += [f"{path.name} does not belong to the export" for path in folder.iterdir() if path.name not in known]
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
