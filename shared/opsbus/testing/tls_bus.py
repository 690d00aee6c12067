"""A bus for tests that is reached over TLS alone, by clients with a certificate."""

from pathlib import Path
from typing import Any

from opsbus.settings import Settings
from opsbus.testing.bus import Bus
from opsbus.testing.certificates import Authority


class TlsBus(Bus):
    """A bus whose clients have to show a certificate."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = Authority(folder / "ca")
        self.certificate = self.authority.issue("server", names=["127.0.0.1"], server=True)
        self.client = self.authority.issue("client")
        self.tls(verify=True)

    def tls(self, **more: Any) -> None:
        """The server's TLS, from its next start on."""
        cert, key = self.certificate.files
        files = {"cert_file": cert, "key_file": key, "ca_file": str(self.authority.ca)}
        self.server.options.extra = {"tls": files | more}

    def settings(self, identity: str, **more: object) -> Settings:
        """Settings that connect an identity, with its certificate."""
        return super().settings(identity, **self.files() | more)

    def files(self) -> dict[str, Any]:
        """Settings of a client."""
        return {"nats_tls_ca": self.authority.ca, "nats_tls_cert": self.client.cert, "nats_tls_key": self.client.key}
