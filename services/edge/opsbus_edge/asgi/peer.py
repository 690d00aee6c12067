"""Who is at the other end of an HTTP connection, and whether that address may come. Who the caller is: gates/.

A proxy is believed only when its own address is in ``trusted_proxies``, and only in the one header that the setting
``forwarded_header`` names: a proxy that writes one of the two headers passes the other through as the client sent it.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.asgi.http import Scope
from opsbus_edge.model import Peer, error_body

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HOPS_MAX = 32
"""Entries of a forwarding header that are looked at."""
_KNOWN_MAX = 4_096
_MAPPED = ip_network("::ffff:0:0/96")
_WITH_PORT = re.compile(r"^(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?$")
_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"(?P<quoted>[^"\\]*)"|(?P<token>[^;,"\s]*))\s*(?=;|$)', re.IGNORECASE)


def network_of(text: str) -> Network:
    """A CIDR or one address. An IPv4-mapped IPv6 network is the IPv4 network it stands for.

    Raises:
        ValueError: it is none, or has host bits set.
    """
    found = ip_network(text)
    if isinstance(found, IPv6Network) and _MAPPED.supernet_of(found):  # type: ignore[arg-type]
        return ip_network((int(found.network_address) & 0xFFFF_FFFF, found.prefixlen - 96))
    return found


def address_of(text: str) -> Address | None:
    """An address, with or without a port, an IPv6 one with a port in brackets; None: it is none.

    IPv4-mapped IPv6 is the IPv4 address; zones (``%eth0``) mean nothing to others and are none.
    """
    matched = _WITH_PORT.match(text)
    if matched:
        text = matched["v6"] or matched["v4"]
    elif "%" in text or "[" in text:
        return None
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


class Peers:
    """Tells requests' peers apart by address.

    Args:
        allowed: Networks that may come; empty: all.
        denied: Networks that may not; they win.
        proxies: Networks of proxies that are believed.
        header: ``x-forwarded-for`` or ``forwarded``: the header that the proxies write.
    """

    def __init__(
        self, allowed: Sequence[str], denied: Sequence[str], proxies: Sequence[str], header: str = "x-forwarded-for"
    ) -> None:
        self._allowed = [network_of(text) for text in allowed]
        self._denied = [network_of(text) for text in denied]
        self._proxies = [network_of(text) for text in proxies]
        self._header = header.encode()
        self._filters = bool(self._allowed or self._denied)
        self._known: dict[str, tuple[str, bool, bool]] = {}

    def peer(self, scope: Scope, certificate: bytes | None = None) -> Peer | ErrorBody:
        """The other end of a request's connection; the error when it may not come.

        Args:
            scope: Of ASGI. Its ``client`` is the connection's other end.
            certificate: Of the client, verified by TLS.
        """
        client = scope.get("client")
        if not client:
            return _not_allowed() if self._allowed else Peer("", certificate)
        text, is_proxy, may_come = self._look_up(client[0])
        if is_proxy:
            forwarded = self._forwarded(scope)
            if forwarded is None:
                return _unreadable(self._header.decode())
            if forwarded:
                text, _, may_come = self._look_up(forwarded)
        if not may_come:
            return _not_allowed()
        return Peer(text, certificate)

    def _look_up(self, raw: str) -> tuple[str, bool, bool]:
        """``(address, whether it is a trusted proxy, whether it may come)``."""
        found = self._known.get(raw)
        if found is None:
            address = address_of(raw.partition("%")[0])
            if address is None:  # a Unix socket's other end
                found = ("", False, not self._allowed)
            else:
                allowed = not self._allowed or _within(address, self._allowed)
                found = (
                    str(address),
                    _within(address, self._proxies),
                    allowed and not _within(address, self._denied),
                )
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[raw] = found
        return found

    def _forwarded(self, scope: Scope) -> str | None:
        """The client that the proxies name; "": they name none; None: what they name is no address.

        From the right: each proxy appends whom it heard. The first that is no trusted proxy is the client; what stands
        left of it is the client's own word and is never looked at.
        """
        values = [value.decode("latin-1") for name, value in scope["headers"] if name == self._header]
        entries = ",".join(values).rsplit(",", HOPS_MAX) if values else []
        found = ""
        for entry in reversed(entries[-HOPS_MAX:]):
            address = self._entry(entry.strip())
            if address is None:
                return None
            found = str(address)
            if not _within(address, self._proxies):
                break
        return found

    def _entry(self, text: str) -> Address | None:
        if self._header == b"forwarded":
            named = _FOR.findall(text)
            if len(named) != 1:
                return None
            text = named[0][0] or named[0][1]
        return address_of(text)


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)


def _not_allowed() -> ErrorBody:
    return error_body(
        ErrorCode.FORBIDDEN,
        "requests from this address are not taken",
        hint="Come from an allowed network, or have it added to the setting allowed_networks.",
    )


def _unreadable(header: str) -> ErrorBody:
    return error_body(
        ErrorCode.INVALID_REQUEST,
        f"the header {header} does not name the client by its address",
        hint=f"The proxies in front have to write IP addresses into {header}.",
    )
