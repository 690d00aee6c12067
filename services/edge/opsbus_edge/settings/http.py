"""Where the edge listens, and what it takes from whom before it looks at it."""

from pydantic import Field

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
    body_bytes_max: int = Field(default=4 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Of a request.")
    json_depth_max: int = Field(default=64, ge=8, le=512, description="Nesting of a request's JSON.")
    body_timeout_s: float = Field(default=30.0, gt=0, le=600, description="A request's body has come by then.")
    keep_alive_s: float = Field(default=15.0, gt=0, le=300, description="A silent stream gets a comment this often.")
    connections_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Beyond it the answer is 503 at once.")
    drain_grace_s: float = Field(
        default=0.0, ge=0, le=120, description="On SIGTERM /ready is red this long before requests are refused."
    )
