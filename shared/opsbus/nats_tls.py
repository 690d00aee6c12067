"""TLS to NATS: what to trust and to show, no way around it, which failures are final. Connecting lives elsewhere."""

import ssl
from pathlib import Path
from typing import Any

from nats import errors

from opsbus.nats_quick import QuickClient
from opsbus.settings import Settings, SettingsError


class NoTlsError(errors.Error):
    """The server offers no TLS, and this process asks for it."""

    def __str__(self) -> str:
        return "the server offers no TLS"


class TlsClient(QuickClient):
    """A client that speaks TLS or not at all: nats-py itself goes on in the clear when the server's first line, which
    anybody in between can write, does not ask for TLS.
    """

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and not self.options.get("tls_handshake_first"):
            if not (info.get("tls_required") or info.get("tls_available")):
                raise NoTlsError
            info["tls_required"] = True
        await super()._process_info(info, initial_connection=initial_connection)


def context(settings: Settings) -> ssl.SSLContext | None:
    """What connections are made with; None: the settings ask for no TLS.

    Raises:
        SettingsError: a file cannot be used.
    """
    secured = any(server.strip().startswith(("tls://", "wss://")) for server in settings.nats_url.split(","))
    if not secured and not (settings.nats_tls_ca or settings.nats_tls_cert or settings.nats_tls_key):
        return None
    if settings.nats_tls_ca is not None:
        _readable(settings.nats_tls_ca, "nats_tls_ca")
    try:
        made = ssl.create_default_context(cafile=settings.nats_tls_ca)
    except (OSError, ValueError):
        raise _wrong("nats_tls_ca", settings.nats_tls_ca, "holds no certificates in PEM") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    show(settings, made)
    return made


def show(settings: Settings, made: ssl.SSLContext) -> None:
    """Load the own certificate, also anew: it may have been renewed since.

    Raises:
        SettingsError: a file cannot be used.
    """
    if settings.nats_tls_cert is None:
        if settings.nats_tls_key is not None:
            raise _wrong("nats_tls_key", settings.nats_tls_key, "is of no use without its certificate nats_tls_cert")
        return
    _readable(settings.nats_tls_cert, "nats_tls_cert")
    if settings.nats_tls_key is not None:
        _readable(settings.nats_tls_key, "nats_tls_key")
    try:
        # A key with a password: OpenSSL would ask for it on the terminal.
        made.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key, lambda: "")
    except (OSError, ValueError):
        problem = f"and its key {settings.nats_tls_key or '(in the same file)'} do not go together or are no plain PEM"
        raise _wrong("nats_tls_cert", settings.nats_tls_cert, problem) from None


def refusal(error: Exception) -> str:
    """Why this can never become a connection, and what to look at; empty: trying again may help."""
    if isinstance(error, NoTlsError):
        return "offers no TLS; switch it on there, or take the nats_tls_* settings and tls:// away"
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message
        return f"shows a certificate that is not trusted ({why}); check nats_tls_ca and the name in nats_url"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return f"refuses this process's certificate ({(error.reason or '').lower()}); check nats_tls_cert"
    return ""


def _readable(path: Path, setting: str) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        raise _wrong(setting, path, f"cannot be read ({error.strerror})") from None


def _wrong(setting: str, path: Path | None, problem: str) -> SettingsError:
    return SettingsError(f"setting {setting}: {path} {problem}; set OPSBUS_{setting.upper()} to the right file")
