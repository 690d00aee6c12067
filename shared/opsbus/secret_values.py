"""Settings that are not written in the clear: ``enc:`` and a Fernet token (``opsbus encrypt``), ``file:`` and a path.

The key is in the file that ``OPSBUS_SETTINGS_KEY_FILE`` names, one a line: the first encrypts, all of them decrypt, so
that a key can be exchanged one value at a time.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

ENCRYPTED = "enc:"
IN_FILE = "file:"
KEY_FILE = "OPSBUS_SETTINGS_KEY_FILE"
FILE_BYTES_MAX = 64 * 1024


class SecretValueError(Exception):
    """A value that cannot be had, in one line without the value."""


class SecretValues:
    """Opens values and remembers of which settings, so that nothing said about those quotes them.

    Args:
        secrets: Names of the settings that may be in files of their own.
    """

    def __init__(self, secrets: frozenset[str]) -> None:
        self._secrets = secrets
        self._key: MultiFernet | None = None
        self.opened: set[str] = set()

    def all(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values of settings by name, opened.

        Raises:
            SecretValueError: one cannot be.
        """
        return {name: self.value(name, value) for name, value in values.items()}

    def value(self, name: str, value: Any) -> Any:
        """A setting's value, opened also inside lists and mappings.

        Raises:
            SecretValueError: it cannot be.
        """
        if isinstance(value, str):
            return self._text(name, value)
        if isinstance(value, Mapping):
            return {key: self.value(name, inner) for key, inner in value.items()}
        return [self.value(name, inner) for inner in value] if isinstance(value, list) else value

    def _text(self, name: str, text: str) -> str:
        if text.startswith(ENCRYPTED):
            self.opened.add(name)
            return self._decrypted(name, text.removeprefix(ENCRYPTED))
        if text.startswith(IN_FILE) and name in self._secrets:
            self.opened.add(name)
            return _content(name, Path(text.removeprefix(IN_FILE)))
        return text

    def _decrypted(self, name: str, token: str) -> str:
        if self._key is None:
            self._key = key(f"setting {name} is encrypted, and ")
        try:
            return self._key.decrypt(token.strip()).decode()
        except (InvalidToken, ValueError):
            raise SecretValueError(
                f"setting {name} cannot be decrypted with the key in {os.environ.get(KEY_FILE)};"
                f" name the right one in {KEY_FILE}, or write the value anew with 'opsbus encrypt'"
            ) from None


def key(why: str = "") -> MultiFernet:
    """The keys of KEY_FILE.

    Raises:
        SecretValueError: there is none; the message begins with ``why``.
    """
    path = os.environ.get(KEY_FILE, "")
    if not path:
        raise SecretValueError(f"{why}{KEY_FILE} names no key; set it to the file that 'opsbus encrypt --new-key' made")
    try:
        lines = Path(path).read_text(encoding="ascii").split()
        return MultiFernet([Fernet(line) for line in lines])
    except OSError as error:
        raise SecretValueError(f"{why}{KEY_FILE}: {path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise SecretValueError(f"{why}{KEY_FILE}: {path} holds no key of 'opsbus encrypt --new-key'") from None


def encrypt(value: str) -> str:
    """``enc:...``

    Raises:
        SecretValueError: there is no key.
    """
    return ENCRYPTED + key().encrypt(value.encode()).decode()


def write_key(path: Path) -> None:
    """A new key in a new file, for its owner alone (0600).

    Raises:
        FileExistsError: the file is there: what it has encrypted could not be read without it.
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(Fernet.generate_key() + b"\n")


def _content(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) <= FILE_BYTES_MAX:
            return content.decode().strip("\r\n")
    except OSError as error:
        raise SecretValueError(f"setting {name}: {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        pass
    raise SecretValueError(f"setting {name}: {path} holds no text of at most {FILE_BYTES_MAX} bytes")
