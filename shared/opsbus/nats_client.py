"""How every process of the platform connects to NATS: own inbox, own identity, reconnecting for ever.

Subscribing lives elsewhere.
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

# isort: off
from opsbus import nats_light  # before nats

# isort: on
from nats import errors
from nats.aio.client import Client

from opsbus import logs, nats_tls
from opsbus.nats_quick import QuickClient
from opsbus.settings import Settings, SettingsError
from opsbus_contracts.subjects import inbox_prefix

log = logs.get("nats")

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
) -> QuickClient:
    """A connection of an identity (``edge``, ``k8s``, ...), which waits for a server that is not there yet.

    Args:
        on_error: Told every error, also the denied publish or subscribe that nothing else reports.
        options: Further options of ``nats.connect``.

    Raises:
        ConnectError: the server refuses this identity, or one of the two does not trust the other's certificate.
        SettingsError: a credentials or TLS file cannot be used.
    """
    connected = False
    where = without_password(settings.nats_url)

    async def error_cb(error: Exception) -> None:
        if on_error is not None:
            on_error(error)
        # nats-py would try again for ever; a refused identity stays refused. Later, a server that reloads may refuse
        # for a moment.
        if not connected and _refused(error):
            raise ConnectError(f"NATS at {where} refuses the identity {identity!r}; check its seed file")
        if not connected and (why := nats_tls.refusal(error)):
            raise ConnectError(f"NATS at {where} {why}")

    tls = nats_tls.context(settings)

    async def disconnected_cb() -> None:
        if tls is not None:
            try:
                nats_tls.show(settings, tls)  # renewed since, perhaps: the next connection shows the new one
            except SettingsError as error:
                log.warning("the own certificate for NATS cannot be read again", error=str(error))
        if on_disconnected is not None:
            await on_disconnected()

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
        "disconnected_cb": disconnected_cb,
        "closed_cb": on_closed,
        **_credentials(settings),
        **({"tls": tls} if tls is not None else {}),
        **options,
    }
    if any(server.startswith(("ws://", "wss://")) for server in kwargs["servers"]):
        nats_light.websockets()
    client = nats_tls.TlsClient() if tls is not None else QuickClient()
    try:
        await client.connect(**kwargs)
    except errors.Error as error:
        if _refused(error):
            raise ConnectError(f"NATS at {where} refuses the identity {identity!r}; check its seed file") from None
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


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    shown = []
    for one in url.split(","):
        parts = urlsplit(one.strip())
        if parts.hostname is None:
            shown.append(one.strip())
            continue
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        shown.append(f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}{parts.path}")
    return ",".join(shown)


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
