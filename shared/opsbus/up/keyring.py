"""The platform's keys on this machine: made once, kept in the data folder, readable for their owner alone.

Identities on the bus are nkeys; identities of callers are signed by an Ed25519 key; the edge seals request state with
a key of its own; lab tokens are signed by another Ed25519 key, whose public part the edge trusts.
"""

import base64
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from opsbus.identity import Signer
from opsbus.nkeys_ import new_user, public_of
from opsbus.up.folder import Folder, write_private
from opsbus_contracts.permissions import PLATFORM_IDENTITIES

KEY_BYTES = 32


class KeyFileError(Exception):
    """A kept key cannot be used; one line with the file and what to do."""


@dataclass(frozen=True)
class Keyring:
    """Where each key is, and the public parts."""

    seeds: dict[str, Path]
    """nkey seed file by identity."""
    users: dict[str, str]
    """Public nkey by identity."""
    identity_pem: Path
    """Private key that signs caller identities."""
    identity: Signer
    seal_key: Path
    """32 random bytes, base64: seals what clients carry for the edge."""
    digest_key: Path
    """32 random bytes, base64: marks values that are hidden in the record, so that equal ones are recognised."""
    checkpoint_pem: Path
    """Private key that signs the record's checkpoints."""
    lab_pem: Path
    """Private key that signs lab tokens."""
    lab_public_pem: Path
    lab: Signer
    made: int
    """How many were made now rather than found."""


def open_keyring(folder: Folder, services: Iterable[str]) -> Keyring:
    """Every key, made where it is missing.

    Args:
        folder: The data folder.
        services: The service tokens that need an identity beside the platform's own.

    Raises:
        KeyFileError: a file is there and holds no such key.
    """
    made: list[Path] = []
    identities = sorted({*PLATFORM_IDENTITIES, *services})
    seeds = {name: _kept(folder.keys / f"{name}.nk", _new_seed, made) for name in identities}
    users = {name: public_nkey(path) for name, path in seeds.items()}
    identity_pem = _kept(folder.keys / "identity-signing.pem", _new_pem, made)
    lab_pem = _kept(folder.keys / "lab-tokens.pem", _new_pem, made)
    checkpoint_pem = _kept(folder.keys / "checkpoint-signing.pem", _new_pem, made)
    _signer(checkpoint_pem)
    seal_key = _kept(folder.keys / "edge-seal.key", _new_key, made)
    digest_key = _kept(folder.keys / "record-digest.key", _new_key, made)
    lab = _signer(lab_pem)
    lab_public = folder.keys / "lab-tokens.pub.pem"
    write_private(lab_public, lab.public().public_key_pem)
    return Keyring(
        seeds=seeds,
        users=users,
        identity_pem=identity_pem,
        identity=_signer(identity_pem),
        checkpoint_pem=checkpoint_pem,
        seal_key=_checked_key(seal_key),
        digest_key=_checked_key(digest_key),
        lab_pem=lab_pem,
        lab_public_pem=lab_public,
        lab=lab,
        made=len(made),
    )


def public_nkey(seed_file: Path) -> str:
    """The public nkey (U...) of a seed file.

    Raises:
        KeyFileError: the file cannot be read or holds no seed.
    """
    try:
        return public_of(seed_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        raise KeyFileError(f"{seed_file} holds no nkey seed; remove it to make a new one") from None


def _kept(path: Path, make: Callable[[], str], made: list[Path]) -> Path:
    if not path.exists():
        write_private(path, make())
        made.append(path)
    return path


def _new_seed() -> str:
    return new_user().seed


def _new_pem() -> str:
    return Signer.generate().pem().decode("ascii")


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")


def _signer(path: Path) -> Signer:
    try:
        return Signer.from_pem(path.read_bytes())
    except (OSError, ValueError) as error:
        raise KeyFileError(
            f"{path} holds no Ed25519 key ({type(error).__name__}); remove it to make a new one"
        ) from None


def _checked_key(path: Path) -> Path:
    try:
        length = len(base64.b64decode(path.read_text(encoding="ascii"), validate=True))
    except (OSError, ValueError):
        length = 0
    if length != KEY_BYTES:
        raise KeyFileError(f"{path} holds no {KEY_BYTES} bytes in base64; remove it to make a new one")
    return path
