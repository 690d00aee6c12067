"""The listener's side of TLS: a context from the settings' files, made anew when one of them changes."""

import asyncio
import ssl
import time
from pathlib import Path

from cryptography import x509

from opsbus import logs, tasks
from opsbus.settings import SettingsError
from opsbus_edge import keyfiles
from opsbus_edge.settings.tls import TlsSettings

log = logs.get("edge")

LOOK_EVERY_S = 2.0
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!eNULL:!MD5:!DSS"
"""Of TLS 1.2: forward secrecy and authenticated encryption. Those of TLS 1.3 are all sane."""
_FILES = ("tls_cert_file", "tls_key_file", "tls_client_ca_file", "tls_client_crl_file")
_CRL_BEGINS = b"-----BEGIN X509 CRL-----"
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Tls:
    """What new connections are accepted with.

    ``context`` goes to the server once and stays; each handshake is led over to the newest context, so that a renewed
    certificate, a signer that was taken out and a new revocation list count for every connection that comes after.

    Raises:
        SettingsError: a file cannot be used.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._files = [path for name in _FILES if (path := getattr(settings, name)) is not None]
        self._seen = self._states()
        self._newest, self._revoked = _context(settings), _revoked(settings)
        self.read_at = time.time()
        """When the files were read last. A session resumed from before was not verified by what they say. Unix time."""
        self.context = _context(settings)
        self.context.sni_callback = self._lead_over
        self._complained = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look at the files."""
        self._task = asyncio.create_task(self._run(), name="tls-files")

    async def stop(self) -> None:
        """End it."""
        await tasks.end(self._task)

    def read_again(self) -> None:
        """Take the files as they are now; when they cannot be used, go on with what was."""
        states = self._states()
        try:
            newest, revoked = _context(self._settings), _revoked(self._settings)
        except SettingsError as error:
            if str(error) != self._complained:
                self._complained = str(error)
                log.error("the new TLS files are not taken", error=str(error))
            return
        self._newest, self._revoked, self._seen, self._complained = newest, revoked, states, ""
        self.read_at = time.time()
        log.info("TLS files read again")

    def is_revoked(self, certificate: bytes) -> bool:
        """Whether a certificate (DER) that was verified before is on the newest list of revoked ones."""
        if not self._revoked:
            return False
        found = x509.load_der_x509_certificate(certificate)
        return (found.issuer.public_bytes(), found.serial_number) in self._revoked

    def _lead_over(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = self._newest

    def _states(self) -> list[tuple[int, int, int] | None]:
        return [_state(path) for path in self._files]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._states() != self._seen:
                self.read_again()


def _context(settings: TlsSettings) -> ssl.SSLContext:
    for setting in _FILES:
        if (path := getattr(settings, setting)) is not None:
            keyfiles.read(path, setting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.tls_minimum]
    context.set_ciphers(_CIPHERS)
    # Tickets would let a client come back without showing its certificate.
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = _VERIFY[settings.tls_client_certificates]
    try:
        # A key with a password and none given: OpenSSL would ask on the terminal.
        password = settings.tls_key_password.get_secret_value()
        context.load_cert_chain(str(settings.tls_cert_file), settings.tls_key_file, lambda: password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        problem = f"and its key {settings.tls_key_file} do not go together or are no PEM"
        raise _wrong("tls_cert_file", settings.tls_cert_file, error, problem) from None
    for setting in ("tls_client_ca_file", "tls_client_crl_file"):
        path = getattr(settings, setting)
        if path is not None:
            try:
                context.load_verify_locations(path)
            except (OSError, ValueError) as error:
                raise _wrong(setting, path, error) from None
    if settings.tls_client_crl_file is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if settings.tls_client_ca_file is not None and not context.get_ca_certs():
        raise SettingsError(
            f"setting tls_client_ca_file: {settings.tls_client_ca_file} holds no certificate of a signer"
        )
    return context


def _revoked(settings: TlsSettings) -> frozenset[tuple[bytes, int]]:
    """Issuer and number of each; the handshake looks at the file too, open connections have theirs behind them."""
    path = settings.tls_client_crl_file
    if path is None:
        return frozenset()
    lists = keyfiles.read(path, "tls_client_crl_file").split(_CRL_BEGINS)[1:]
    try:
        crls = [x509.load_pem_x509_crl(_CRL_BEGINS + one) for one in lists]
    except ValueError as error:
        raise _wrong("tls_client_crl_file", path, error) from None
    return frozenset((crl.issuer.public_bytes(), one.serial_number) for crl in crls for one in crl)


def _wrong(setting: str, path: Path | None, error: Exception, problem: str = "holds no usable PEM") -> SettingsError:
    reason = getattr(error, "reason", None) or type(error).__name__
    return SettingsError(
        f"setting {setting}: {path} {problem} ({reason}); set OPSBUS_EDGE_{setting.upper()} to the right file"
    )


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
