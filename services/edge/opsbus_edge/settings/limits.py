"""How much, how many, how long."""

from pydantic import Field, field_validator

from opsbus.settings import Settings
from opsbus_edge.limits.rate import rate_of


class LimitSettings(Settings):
    """Part of EdgeSettings."""

    call_timeout_max_s: float = Field(default=600.0, gt=0, le=3600, description="No call takes longer.")
    calls_per_caller: int = Field(default=100, ge=1, le=100_000, description="Calls of one caller at once.")
    calls_in_flight_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Calls at workers at once.")
    load_factor: float = Field(
        default=2.0, gt=0, le=1_000, description="Calls under way at a service for each call that its instances run."
    )
    rate_global: str = Field(default="", description="Of all callers over all edges: 1000/minute burst 200.")
    rate_caller: str = Field(default="", description="Of each caller.")
    rate_roles: dict[str, str] = Field(
        default={},
        max_length=1_000,
        description="Of callers with a role, in place of rate_caller; the best counts.",
    )
    rate_tools: dict[str, str] = Field(
        default={}, max_length=1_000, description="Of tools, by glob; the first that fits."
    )
    rate_tool_callers: dict[str, str] = Field(
        default={}, max_length=1_000, description="Of each caller of tools, by glob; the first that fits."
    )
    rate_address: str = Field(default="", description="Of each address before sign-in; a failed one costs ten.")
    rate_offline_share: float = Field(
        default=0.25, ge=0, le=1, description="Of each rate, what an edge admits by itself while the bus is away."
    )
    quarantine_stale_s: float = Field(
        default=15.0, gt=0, le=600, description="Without news of what is quarantined for this long nothing is let in."
    )
    answer_timeout_s: float = Field(
        default=300.0, gt=0, le=3600, description="A session's client answers a question (elicitation ...) by then."
    )
    sse_poll_after_s: float = Field(
        default=0.0, ge=0, le=3600, description="A session's stream is closed after this long, to be polled; 0: never."
    )
    list_page_size: int = Field(default=1_000, ge=1, le=10_000, description="Items on a page of a list.")
    list_ttl_ms: int = Field(default=1_000, ge=0, le=3_600_000, description="Clients may keep a list this long.")
    sessions_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Sessions of older clients at once.")
    subscriptions_per_caller: int = Field(
        default=1_000, ge=1, le=100_000, description="Resources and tasks that one caller watches at an edge."
    )
    listens_per_caller: int = Field(
        default=100, ge=1, le=100_000, description="Streams (subscriptions/listen) of one caller at an edge."
    )
    session_idle_s: float = Field(default=1_800.0, gt=0, le=86_400, description="A session unused this long ends.")

    @field_validator("rate_global", "rate_caller", "rate_address")
    @classmethod
    def _rates(cls, value: str) -> str:
        if value:
            rate_of(value)
        return value

    @field_validator("rate_roles", "rate_tools", "rate_tool_callers")
    @classmethod
    def _rates_by_name(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            rate_of(text)
        return value
