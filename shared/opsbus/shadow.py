"""A worker as a candidate (``opsbus run NAME --shadow``): a new version that answers recorded reads sent again, beside
the version in service. It listens on ``shadow.<service>.*`` alone, believes one key alone, and runs no tool that may
change something. Sending, and comparing, is the audit service's matter.
"""

import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from opsbus.identity import PublicKey, Signer
from opsbus.settings import Settings, SettingsError
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode

if TYPE_CHECKING:
    from opsbus.registry import Tool

KEY_NAME = "audit-shadow.pem"
"""In the folder of keys; the public part stands beside it as ``.pub.pem``."""


def subjects(service: str, shadow: bool) -> list[str]:
    """What a worker listens on."""
    return [f"shadow.{service}.*"] if shadow else [f"tool.{service}.*", f"mcp.{service}.*"]


def check(tool: "Tool") -> None:
    """A candidate only reads, whatever it is sent.

    Raises:
        ToolError: ``forbidden``.
    """
    hints = tool.spec.annotations
    if tool.mutating or not hints.read_only or hints.destructive:
        raise ToolError(
            ErrorCode.FORBIDDEN,
            f"{tool.spec.name} may change something, and this is a candidate",
            hint="Only tools that read are compared.",
        )


class OneKey:
    """The one key a candidate believes."""

    def __init__(self, public: PublicKey) -> None:
        self._kid = public.kid
        self._key = public.load()

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """The key, when it is that one."""
        return self._key if kid == self._kid else None


def keys(settings: Settings) -> OneKey:
    """The key of the settings.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    path = settings.shadow_key_file
    if path is None:
        raise SettingsError(
            "setting shadow_key_file: a candidate needs the public key of who may call it; set OPSBUS_SHADOW_KEY_FILE"
        )
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"setting shadow_key_file: {path} cannot be read ({error.strerror})") from None
    except ValueError:
        raise SettingsError(f"setting shadow_key_file: {path} holds no public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(f"setting shadow_key_file: {path} holds no Ed25519 key")
    return OneKey(PublicKey(kid=kid_of(key), public_key_pem=path.read_text(encoding="ascii")))


def kid_of(key: Ed25519PublicKey) -> str:
    """As a Signer names its key."""
    return sha256(key.public_bytes_raw()).hexdigest()[:16]


def signer(path: Path) -> Signer:
    """The key that signs calls to candidates, made when there is none, with its public part beside it.

    Raises:
        OSError, ValueError: it cannot be read or made, or is no Ed25519 key in PEM.
    """
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = Signer.generate()
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(made.pem())
    found = Signer.from_pem(path.read_bytes())
    public = path.with_suffix(".pub.pem")
    if not public.exists():
        public.write_text(found.public().public_key_pem, encoding="ascii")
    return found
