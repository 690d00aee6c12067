"""Keys out of files that settings name. A wrong file stops the process with one line that names it."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from opsbus.identity import Signer
from opsbus.settings import SettingsError

SECRET_BYTES_MIN = 32


def read(path: Path, setting: str) -> bytes:
    """The file's bytes.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _wrong(setting, path, f"cannot be read ({error.strerror})") from None


def ed25519_public_key(path: Path, setting: str) -> Ed25519PublicKey:
    """An Ed25519 public key in PEM.

    Raises:
        SettingsError: the file holds none.
    """
    try:
        key = load_pem_public_key(read(path, setting))
    except (ValueError, UnsupportedAlgorithm):
        raise _wrong(setting, path, "holds no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise _wrong(setting, path, "holds a key that is not Ed25519")
    return key


def secret(path: Path, setting: str) -> bytes:
    """A shared secret: the file's content without white space around it.

    Raises:
        SettingsError: it is too short.
    """
    value = read(path, setting).strip()
    if len(value) < SECRET_BYTES_MIN:
        raise _wrong(setting, path, f"holds {len(value)} bytes, a secret has at least {SECRET_BYTES_MIN}")
    return value


def secrets_by_line(path: Path, setting: str) -> list[bytes]:
    """Secrets, one a line; the first is the newest.

    Raises:
        SettingsError: there is none, or one is too short.
    """
    lines = [line.strip() for line in read(path, setting).splitlines() if line.strip()]
    if not lines or any(len(line) < SECRET_BYTES_MIN for line in lines):
        raise _wrong(setting, path, f"must hold keys of at least {SECRET_BYTES_MIN} characters, one a line")
    return lines


def signer(path: Path, setting: str) -> Signer:
    """The key that signs identities.

    Raises:
        SettingsError: the file holds no Ed25519 private key in PEM.
    """
    try:
        return Signer.from_pem(read(path, setting))
    except ValueError:
        raise _wrong(setting, path, "holds no unencrypted Ed25519 private key in PEM") from None


def _wrong(setting: str, path: Path, problem: str) -> SettingsError:
    return SettingsError(f"setting {setting}: {path} {problem}; set OPSBUS_EDGE_{setting.upper()} to the right file")
