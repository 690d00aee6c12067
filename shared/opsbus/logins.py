"""Who this user is at which edge: tokens in a file that nobody else may read. Signing in: ``opsbus login``."""

import os
import secrets
import time
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

LOGINS_MAX = 100


class Login(BaseModel):
    """A token of an edge."""

    url: str
    token: str
    expires: int
    """Unix seconds."""
    sub: str
    ca: str = ""
    """File with the certificates to trust there; empty: the system's."""

    @property
    def over(self) -> bool:
        """Whether the token has expired."""
        return self.expires <= time.time()


class _File(BaseModel):
    logins: list[Login] = []
    """The latest first."""


def file() -> Path:
    """``~/.config/opsbus/logins.json``, or where the system keeps such things."""
    import typer

    return Path(typer.get_app_dir("opsbus")) / "logins.json"


def normal(url: str) -> str:
    """One writing of an edge's address: without ``/mcp`` and the last slash, the host in small letters."""
    url = url.rstrip("/").removesuffix("/mcp")
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path}"


def find(url: str = "") -> Login | None:
    """The login at an edge, the latest without a name; None: there is none. It may be over."""
    return next((one for one in _read().logins if not url or one.url == normal(url)), None)


def save(login: Login) -> Path:
    """Remember it, in place of the one before at that edge; the file is for this user alone (0600).

    Raises:
        OSError: the file cannot be written.
    """
    others = [one for one in _read().logins if one.url != login.url and not one.over]
    return _write(_File(logins=[login, *others][:LOGINS_MAX]))


def forget(url: str) -> bool:
    """Whether there was one at that edge; it is gone now.

    Raises:
        OSError: the file cannot be written.
    """
    found = _read().logins
    left = [one for one in found if one.url != normal(url)]
    if len(left) != len(found):
        _write(_File(logins=left))
    return len(left) != len(found)


def _read() -> _File:
    try:
        return _File.model_validate_json(file().read_bytes())
    except (OSError, ValidationError):
        return _File()  # none yet, or none that can be used: sign in again


def _write(content: _File) -> Path:
    path = file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(content.model_dump_json(indent=1))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return path
