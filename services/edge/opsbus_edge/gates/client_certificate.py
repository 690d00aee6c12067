"""One way to prove an identity: a client certificate that TLS verified. Whose it is, settings say by its names.

What the request says by a token or key of its own counts more: gates are asked in order, and this one is the last.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID

from opsbus_edge.gates.proof import Proven, refuse
from opsbus_edge.model import NO_PEER, Denied, Peer
from opsbus_edge.settings.tls import CertificateIdentity

CACHE_MAX = 10_000
NAMES_MAX = 256
"""Names of a certificate that are looked at."""
_PART = {"uri": "[^/]", "dns": r"[^.]", "email": "[^@]", "cn": "."}
"""What ``*`` stands for in a name of each kind, once or more: never more than one part."""

_Known = tuple[float, float, Proven | None]


class ClientCertificates:
    """Certificates to identities, by the first of ``identities`` that matches a name."""

    def __init__(self, identities: Sequence[CertificateIdentity], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._rules = [(*_compiled(identity.match), identity) for identity in identities]
        self._known: OrderedDict[bytes, _Known | None] = OrderedDict()

    async def __call__(self, headers: Mapping[str, str], peer: Peer = NO_PEER) -> Proven | Denied | None:
        """Whom the certificate stands for; None when there is none."""
        if peer.certificate is None or not self._rules:
            return None
        known = self._look_up(peer.certificate)
        if known is None:
            return refuse("the client certificate cannot be read")
        begins, ends, proven = known
        # TLS looked at the time when the connection was made; it may have been open for days.
        if not begins <= self._clock() < ends:
            return refuse("the client certificate has expired or is not valid yet", hint="Renew it, connect again.")
        return proven or refuse(
            "no identity is mapped to the client certificate", hint="The setting certificate_identities maps its names."
        )

    def _look_up(self, certificate: bytes) -> _Known | None:
        if certificate in self._known:
            self._known.move_to_end(certificate)
            return self._known[certificate]
        found = self._read(certificate)
        self._known[certificate] = found
        if len(self._known) > CACHE_MAX:
            self._known.popitem(last=False)
        return found

    def _read(self, der: bytes) -> _Known | None:
        try:
            certificate = x509.load_der_x509_certificate(der)
            names = _names(certificate)
        except ValueError:  # also what cryptography says of a damaged extension
            return None
        proven = next((found for rule in self._rules if (found := _proven(*rule, names))), None)
        return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp(), proven


def _proven(
    kind: str, pattern: re.Pattern[str], identity: CertificateIdentity, names: list[tuple[str, str]]
) -> Proven | None:
    for of_kind, name in names:
        if of_kind == kind and pattern.fullmatch(name):
            sub = identity.sub.replace("{name}", name)
            if len(sub) <= 256 and sub.isprintable():
                return Proven(sub, tuple(sorted(set(identity.roles))), "mtls")
    return None


def _names(certificate: x509.Certificate) -> list[tuple[str, str]]:
    """``(kind, name)``: the alternative names, then the common names of the subject."""
    found: list[tuple[str, str]] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        for one in extension.value:
            match one:
                case x509.UniformResourceIdentifier():
                    found.append(("uri", one.value))
                case x509.DNSName():
                    found.append(("dns", one.value.lower()))
                case x509.RFC822Name():
                    found.append(("email", one.value.lower()))
    except x509.ExtensionNotFound:
        pass
    found += [("cn", str(one.value)) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return found[:NAMES_MAX]


def _compiled(match: str) -> tuple[str, re.Pattern[str]]:
    kind, _, name = match.partition(":")
    if kind in ("dns", "email"):
        name = name.lower()
    return kind, re.compile(f"{_PART[kind]}+".join(re.escape(part) for part in name.split("*")))
