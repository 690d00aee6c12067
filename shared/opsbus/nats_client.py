"""How every process of the platform connects to NATS: own inbox, own identity, reconnecting for ever.

Subscribing lives elsewhere.
"""

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import nats
from nats import errors
from nats.aio.client import Client

from opsbus.settings import Settings, SettingsError
from opsbus_contracts.subjects import inbox_prefix

RECONNECT_WAIT_S = 0.25
"""Between attempts to connect again. Seconds."""

ErrorSeen = Callable[[Exception], None]
Event = Callable[[], Awaitable[None]]


class ConnectError(Exception):
    """NATS refused the connection for good, in one line."""


async def connect(
    settings: Settings,
    identity: str,
    *,
    name: str = "",
    on_error: ErrorSeen | None = None,
    on_reconnected: Event | None = None,
    on_disconnected: Event | None = None,
    on_closed: Event | None = None,
    **options: Any,
) -> Client:
    """A connection of an identity (``edge``, ``k8s``, ...), which waits for a server that is not there yet.

    Args:
        on_error: Told every error, also the denied publish or subscribe that nothing else reports.
        options: Further options of ``nats.connect``.

    Raises:
        ConnectError: the server refuses this identity.
        SettingsError: a credentials or TLS file cannot be used.
    """
    connected = False

    async def error_cb(error: Exception) -> None:
        if on_error is not None:
            on_error(error)
        # nats-py would try again for ever; a refused identity stays refused. Later, a server that reloads may refuse
        # for a moment.
        if not connected and _refused(error):
            raise ConnectError(f"NATS at {settings.nats_url} refuses the identity {identity!r}; check its seed file")

    kwargs: dict[str, Any] = {
        "servers": [server.strip() for server in settings.nats_url.split(",")],
        "name": name or identity,
        "inbox_prefix": inbox_prefix(identity),
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_WAIT_S,
        "ping_interval": 5,  # a connection that died without a word is noticed within 15 s
        "max_outstanding_pings": 2,
        "pending_size": 8 * 1024 * 1024,
        "error_cb": error_cb,
        "reconnected_cb": on_reconnected,
        "disconnected_cb": on_disconnected,
        "closed_cb": on_closed,
        **_credentials(settings),
        **options,
    }
    try:
        client = await nats.connect(**kwargs)
    except errors.Error as error:
        if _refused(error):
            raise ConnectError(
                f"NATS at {settings.nats_url} refuses the identity {identity!r}; check its seed file"
            ) from None
        raise
    connected = True
    return client


async def close(client: Client) -> None:
    """Closes a connection, also one whose server is away.

    nats-py tries to send what is left over the dead transport, raises there, and leaves its tasks running: what cannot
    be sent any more is dropped before.
    """
    if client.is_closed:
        return
    if not client.is_connected:
        client._pending, client._pending_data_size = [], 0
    try:
        await client.close()
    except (errors.Error, OSError):
        return  # the connection broke at this very moment


async def flush_twice(client: Client) -> None:
    """Returns when the server has seen everything sent before.

    nats-py writes the PING of a flush ahead of commands that were just queued, so that one flush proves nothing about
    them; the second one's PONG comes after they were written.
    """
    await client.flush()
    await client.flush()


def error_kind(error: Exception) -> str:
    """A bounded word for a metric's label."""
    text = str(error).lower()
    if "permissions violation" in text:
        return "permission"
    if isinstance(error, errors.SlowConsumerError):
        return "slow_consumer"
    if _refused(error):
        return "authorization"
    if isinstance(error, OSError | errors.NoServersError | errors.StaleConnectionError | EOFError):
        return "connection"
    return "other"


def _refused(error: Exception) -> bool:
    return isinstance(error, errors.AuthorizationError) or "authorization violation" in str(error).lower()


def _credentials(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if settings.nats_creds is not None:
        found["user_credentials"] = str(_readable(settings.nats_creds, "nats_creds"))
    elif settings.nats_seed_file is not None:
        # As text: the client re-reads a file at every reconnect, by then the file may have gone.
        found["nkeys_seed_str"] = (
            _readable(settings.nats_seed_file, "nats_seed_file").read_text(encoding="ascii").strip()
        )
    if settings.nats_tls_ca or settings.nats_tls_cert:
        try:
            context = ssl.create_default_context(cafile=settings.nats_tls_ca)
            if settings.nats_tls_cert:
                context.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"setting nats_tls_*: the certificates cannot be used ({error}); name PEM files"
            ) from None
        found["tls"] = context
    return found


def _readable(path: Any, setting: str) -> Any:
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise SettingsError(
            f"setting {setting}: {path} cannot be read ({error.strerror});"
            f" set OPSBUS_{setting.upper()} to a readable file"
        ) from None
