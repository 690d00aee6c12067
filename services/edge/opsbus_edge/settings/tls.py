"""TLS of the listener, and whom a client certificate stands for. TLS to NATS: the kit's settings."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from opsbus.settings import Settings

KINDS = ("uri", "dns", "email", "cn")


class CertificateIdentity(BaseModel):
    """Whom certificates of a name stand for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: str = Field(
        pattern=r"^(uri|dns|email|cn):.{1,512}$",
        description="uri:spiffe://shop/agents/*, dns:*.agents.shop, email:*@shop.example or cn:name;"
        " * stands for one part of the name.",
    )
    sub: str = Field(
        default="{name}", min_length=1, max_length=256, description="Of the caller; {name}: the name that matched."
    )
    roles: list[str] = Field(min_length=1, max_length=64)


class TlsSettings(Settings):
    """Part of EdgeSettings. The files are read again when they change."""

    tls_cert_file: Path | None = Field(default=None, description="The edge's certificate and those between, PEM.")
    tls_key_file: Path | None = Field(default=None, description="Its private key, PEM.")
    tls_key_password: SecretStr = Field(default=SecretStr(""), description="Of the private key, where it has one.")
    tls_minimum: Literal["1.2", "1.3"] = Field(default="1.2", description="Older versions of TLS are refused.")
    tls_client_certificates: Literal["none", "optional", "required"] = Field(
        default="none", description="required: nobody connects without one, probes neither."
    )
    tls_client_ca_file: Path | None = Field(default=None, description="Who signs certificates of clients, PEM.")
    tls_client_crl_file: Path | None = Field(
        default=None, description="Revoked certificates of clients, PEM; one list for each signer."
    )
    certificate_identities: list[CertificateIdentity] = Field(
        default=[], max_length=1_000, description="The first that matches counts; a certificate without one is refused."
    )

    @property
    def tls(self) -> bool:
        """Whether the listener speaks TLS."""
        return self.tls_cert_file is not None

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file are needed together")
        asked = self.tls_client_certificates != "none"
        if asked and not (self.tls and self.tls_client_ca_file):
            raise ValueError("tls_client_certificates needs tls_cert_file, tls_key_file and tls_client_ca_file")
        if not asked and (self.tls_client_ca_file or self.tls_client_crl_file or self.certificate_identities):
            raise ValueError(
                "tls_client_ca_file, tls_client_crl_file and certificate_identities do nothing unless"
                " tls_client_certificates is optional or required"
            )
        return self
