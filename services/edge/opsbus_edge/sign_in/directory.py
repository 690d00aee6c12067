"""The directory: is it this user's password, and which groups is the user in? Blocking, in threads of its own.

ldap3 speaks LDAP here and nothing more: it would check certificates only when told, and host names by code of its own,
so TLS is Python's own (``_Tls``).
"""

import asyncio
import math
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import ldap3
from ldap3.core import exceptions as ldap_errors
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn

from opsbus import logs
from opsbus.settings import SettingsError
from opsbus_edge import keyfiles
from opsbus_edge.settings.directory import DirectorySettings
from opsbus_edge.sign_in.found import DirectoryError, Found

log = logs.get("edge")

GROUPS_MAX = 1_000
SUB_CHARS_MAX = 256
WAITING_PER_THREAD = 4
_SUCCESS = 0
_REFUSALS = frozenset({8, 19, 32, 34, 48, 49, 50, 53})
"""Results of a bind that say no to this user: wrong password, locked, expired, no such entry. 49 is the usual one."""


class Directory:
    """One LDAP server.

    Raises:
        SettingsError: a certificate file or a DN of the settings cannot be used.
    """

    def __init__(self, settings: DirectorySettings) -> None:
        self._settings = settings
        self._tls = None if settings.ldap_without_tls else _Tls(_context(settings))
        self._roles = {_of_setting(group): roles for group, roles in settings.ldap_group_roles.items()}
        self._threads = ThreadPoolExecutor(settings.ldap_concurrency, thread_name_prefix="ldap")
        self._places = settings.ldap_concurrency * (1 + WAITING_PER_THREAD)

    async def check(self, user: str, password: str) -> Found | None:
        """The user; None: there is none of that name and password.

        Raises:
            DirectoryError: it cannot be told.
        """
        if not password or not user:
            return None  # a bind without a password succeeds for everybody (RFC 4513, 5.1.2)
        if not self._places:
            raise DirectoryError("too many sign-ins at once")
        self._places -= 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._check, user, password)
        work.add_done_callback(self._give_back)
        try:
            async with asyncio.timeout(2 * self._settings.ldap_timeout_s):
                # The thread goes on after a timeout, until its socket's own; its place is not free before.
                return await asyncio.shield(work)
        except TimeoutError:
            raise DirectoryError("no answer in time") from None

    def close(self) -> None:
        """Take no more. Threads end with their sockets' timeout."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _give_back(self, work: "asyncio.Future[Found | None]") -> None:
        self._places += 1
        if not work.cancelled():
            work.exception()  # seen, also when nobody waits any more

    def _check(self, user: str, password: str) -> Found | None:
        settings = self._settings
        try:
            with self._connected(settings.ldap_bind_dn, settings.ldap_bind_password.get_secret_value()) as looking:
                if not _bound(looking):
                    raise DirectoryError("it refuses ldap_bind_dn with ldap_bind_password")
                entry = self._user(looking, user)
                # An unknown user costs what a known one costs: a bind, to a name that nobody has.
                dn = entry["dn"] if entry is not None else f"cn=nobody-{'0' * 32},{settings.ldap_user_base}"
                with self._connected(dn, password) as trying:
                    if not _bound(trying) or entry is None:
                        return None
                return Found(_sub(entry, settings.ldap_sub_attribute), self._roles_of(looking, entry, user))
        except (ldap_errors.LDAPException, OSError) as error:
            raise DirectoryError(_reason(error)) from None

    @contextmanager
    def _connected(self, dn: str, password: str) -> Iterator[ldap3.Connection]:
        """A connection, TLS begun; not bound yet."""
        settings = self._settings
        parts = urlsplit(settings.ldap_url)
        server = ldap3.Server(
            parts.hostname,
            port=parts.port or (636 if parts.scheme == "ldaps" else 389),
            use_ssl=parts.scheme == "ldaps",
            tls=self._tls,
            get_info=ldap3.NONE,
            connect_timeout=settings.ldap_timeout_s,
        )
        connection = ldap3.Connection(
            server,
            user=dn or None,
            # As bytes: from text ldap3 takes away what SASLprep maps to nothing, and what is left may be empty.
            password=password.encode() or None,
            authentication=ldap3.SIMPLE if dn else ldap3.ANONYMOUS,
            client_strategy=ldap3.SYNC,
            read_only=True,
            auto_referrals=False,
            receive_timeout=math.ceil(settings.ldap_timeout_s),
            raise_exceptions=False,
        )
        try:
            connection.open(read_server_info=False)
            if settings.ldap_starttls and not connection.start_tls(read_server_info=False):
                raise DirectoryError("it does not begin TLS")
            yield connection
        finally:
            with suppress(ldap_errors.LDAPException, OSError):
                connection.unbind()

    def _user(self, connection: ldap3.Connection, user: str) -> dict[str, Any] | None:
        settings = self._settings
        wanted = settings.ldap_user_filter.replace("{user}", escape_filter_chars(user))
        found = self._search(connection, settings.ldap_user_base, wanted, [settings.ldap_sub_attribute, "memberOf"], 2)
        if len(found) > 1:
            log.warning("a sign-in is refused: ldap_user_filter finds more than one user")
        return found[0] if len(found) == 1 else None

    def _roles_of(self, connection: ldap3.Connection, entry: dict[str, Any], user: str) -> tuple[str, ...]:
        settings = self._settings
        groups = [str(group) for group in entry["attributes"].get("memberOf") or []]
        if settings.ldap_group_base:
            wanted = settings.ldap_group_filter.replace("{user}", escape_filter_chars(user))
            wanted = wanted.replace("{dn}", escape_filter_chars(entry["dn"]))
            found = self._search(connection, settings.ldap_group_base, wanted, ["1.1"], GROUPS_MAX)
            groups += [one["dn"] for one in found]
        roles = {role for group in groups[:GROUPS_MAX] for role in self._roles.get(_normal(group), ())}
        return tuple(sorted(roles))

    def _search(
        self, connection: ldap3.Connection, base: str, wanted: str, attributes: list[str], most: int
    ) -> list[dict[str, Any]]:
        connection.search(
            base,
            wanted,
            search_scope=ldap3.SUBTREE,
            dereference_aliases=ldap3.DEREF_NEVER,
            attributes=attributes,
            size_limit=most,
            time_limit=max(1, round(self._settings.ldap_timeout_s)),
        )
        code = connection.result["result"]
        if code not in (_SUCCESS, 4):  # 4: more than asked for; the caller counts
            raise DirectoryError(f"a search below {base!r} ends with {connection.result['description']}")
        return [one for one in connection.response or [] if one["type"] == "searchResEntry"]


class _Tls(ldap3.Tls):  # type: ignore[misc]
    """TLS by a context of Python's, which checks the certificate and the host's name."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context

    def wrap_socket(self, connection: ldap3.Connection, do_handshake: bool = False) -> None:
        connection.socket = self._context.wrap_socket(connection.socket, server_hostname=connection.server.host)


def _context(settings: DirectorySettings) -> ssl.SSLContext:
    if settings.ldap_ca_file is not None:
        keyfiles.read(settings.ldap_ca_file, "ldap_ca_file")
    try:
        context = ssl.create_default_context(cafile=settings.ldap_ca_file)
    except (OSError, ValueError):
        raise SettingsError(
            f"setting ldap_ca_file: {settings.ldap_ca_file} holds no certificates in PEM;"
            " set OPSBUS_EDGE_LDAP_CA_FILE to the right file"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _bound(connection: ldap3.Connection) -> bool:
    connection.bind(read_server_info=False)
    code = connection.result["result"]
    if code == _SUCCESS:
        return True
    if code in _REFUSALS:
        return False
    raise DirectoryError(f"a bind ends with {connection.result['description']}")


def _sub(entry: dict[str, Any], attribute: str) -> str:
    """As the directory writes it: however the name was typed, one person is one ``sub``."""
    found = entry["attributes"].get(attribute)
    values = found if isinstance(found, list) else [found]
    if len(values) != 1 or not isinstance(values[0], str):
        raise DirectoryError(f"the user has not one value of {attribute} (ldap_sub_attribute)")
    if not 0 < len(values[0]) <= SUB_CHARS_MAX or not values[0].isprintable():
        raise DirectoryError(f"the user's {attribute} is no name (ldap_sub_attribute)")
    return values[0]


def _normal(dn: str) -> tuple[tuple[str, str], ...]:
    """A DN for comparing: neither case nor the way it is escaped counts; empty: it is none."""
    try:
        return tuple((name.lower(), value.casefold()) for name, value, _ in parse_dn(dn, escape=False, strip=True))
    except ldap_errors.LDAPInvalidDnError:
        return ()


def _of_setting(group: str) -> tuple[tuple[str, str], ...]:
    found = _normal(group)
    if not found:
        raise SettingsError(
            f"setting ldap_group_roles: {group[:80]!r} is no DN; write cn=operators,ou=groups,dc=shop,dc=example"
        )
    return found


def _reason(error: Exception) -> str:
    """In one line; ldap3 puts what it was sent into no message, but much else."""
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}".rstrip(": ")
