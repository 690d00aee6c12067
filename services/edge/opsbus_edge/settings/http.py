"""Where the edge listens, and what it takes from whom before it looks at it."""

from ipaddress import ip_network
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from opsbus.settings import Settings


class HttpSettings(Settings):
    """Part of EdgeSettings."""

    http_port: int = Field(default=8080, ge=0, le=65535, description="0: a free port.")
    allowed_hosts: list[str] = Field(
        default=["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[::1]:*"],
        description="Host headers that are answered (DNS rebinding); host:* any port; * any host.",
    )
    allowed_origins: list[str] = Field(
        default=["http://localhost", "http://localhost:*", "http://127.0.0.1", "http://127.0.0.1:*"],
        description="Origin headers of browsers that are answered; *: any.",
    )
    cors_origins: list[str] = Field(
        default=[],
        description="Origins whose pages may call and read answers (CORS); they need not be in allowed_origins too."
        " origin:* any port; * any page, then without credentials.",
    )
    cors_credentials: bool = Field(
        default=False, description="Pages may send cookies and client certificates along; not with cors_origins *."
    )
    allowed_networks: list[str] = Field(
        default=[], description="CIDRs of clients that are answered; empty: all. /live and /ready answer everybody."
    )
    denied_networks: list[str] = Field(default=[], description="CIDRs of clients that are not; wins over allowed.")
    trusted_proxies: list[str] = Field(
        default=[], description="CIDRs of proxies whose forwarded_header is believed; empty: it is ignored."
    )
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = Field(
        default="x-forwarded-for", description="Where trusted proxies name the client; the other header is ignored."
    )
    headers_max: int = Field(default=100, ge=10, le=1_000, description="Headers of a request.")
    headers_bytes_max: int = Field(
        default=32 * 1024, ge=1024, le=256 * 1024, description="Of a request's target and headers together."
    )
    headers_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=600,
        description="A request's headers have come by then; the first one's since it connected.",
    )
    write_timeout_s: float = Field(
        default=30.0, gt=0, le=600, description="A client that takes nothing of its answer for this long is cut off."
    )
    arguments_bytes_max: int = Field(default=512 * 1024, ge=256, le=900_000, description="A tool's arguments, as JSON.")
    body_bytes_max: int = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Of a request.")
    json_depth_max: int = Field(default=64, ge=8, le=512, description="Nesting of a request's JSON.")
    body_timeout_s: float = Field(default=30.0, gt=0, le=600, description="A request's body has come by then.")
    keep_alive_s: float = Field(default=15.0, gt=0, le=300, description="A silent stream gets a comment this often.")
    connections_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Beyond it the answer is 503 at once.")
    requests_waiting_max: int = Field(
        default=2_048, ge=1, le=100_000, description="Requests that wait for their turn; beyond it the answer is 503."
    )
    request_wait_max_s: float = Field(
        default=0.5, gt=0, le=60, description="While requests are refused, one that waited longer is too."
    )
    drain_grace_s: float = Field(
        default=0.0, ge=0, le=120, description="On SIGTERM /ready is red this long before requests are refused."
    )

    @field_validator("allowed_networks", "denied_networks", "trusted_proxies")
    @classmethod
    def _are_networks(cls, values: list[str]) -> list[str]:
        for value in values:
            try:
                ip_network(value)
            except ValueError as error:
                raise ValueError(f"{error}; a network is written 10.0.0.0/8") from None
        return values

    @model_validator(mode="after")
    def _no_credentials_for_all(self) -> Self:
        if self.cors_credentials and "*" in self.cors_origins:
            raise ValueError("cors_credentials cannot be set while cors_origins has *: name the origins")
        return self
