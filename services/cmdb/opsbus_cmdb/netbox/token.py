"""The token for NetBox: from the environment or a file, never from an argument, which the process list would show."""

import os
from pathlib import Path

TOKEN = "NETBOX_TOKEN"  # noqa: S105 - a name
TOKEN_FILE = "NETBOX_TOKEN_FILE"  # noqa: S105
CA_FILE = "NETBOX_CA_FILE"


def read_token(file: Path | None = None) -> str:
    """The token of ``file``, else of NETBOX_TOKEN, else of the file that NETBOX_TOKEN_FILE names; empty: none.

    Raises:
        ValueError: the file cannot be read, or holds no token.
    """
    named = os.environ.get(TOKEN_FILE, "").strip()
    if file is None and os.environ.get(TOKEN, "").strip():
        return _checked(os.environ[TOKEN].strip(), TOKEN)
    if file is None and not named:
        return ""
    path = file or Path(named)
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"the token file {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"the token file {path} is no text") from error
    if not token:
        raise ValueError(f"the token file {path} is empty")
    return _checked(token, str(path))


def _checked(token: str, where: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{where} holds no token: one word of ASCII, as NetBox showed it")
    return token
