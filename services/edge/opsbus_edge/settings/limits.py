"""How much, how many, how long."""

from pydantic import Field

from opsbus.settings import Settings


class LimitSettings(Settings):
    """Part of EdgeSettings."""

    call_timeout_max_s: float = Field(default=600.0, gt=0, le=3600, description="No call takes longer.")
    calls_per_caller: int = Field(default=100, ge=1, le=100_000, description="Calls of one caller at once.")
    calls_in_flight_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Calls at workers at once.")
    answer_timeout_s: float = Field(
        default=300.0, gt=0, le=3600, description="A session's client answers a question (elicitation ...) by then."
    )
    sse_poll_after_s: float = Field(
        default=0.0, ge=0, le=3600, description="A session's stream is closed after this long, to be polled; 0: never."
    )
    list_page_size: int = Field(default=1_000, ge=1, le=10_000, description="Items on a page of a list.")
    list_ttl_ms: int = Field(default=1_000, ge=0, le=3_600_000, description="Clients may keep a list this long.")
    sessions_max: int = Field(default=10_000, ge=1, le=1_000_000, description="Sessions of older clients at once.")
    session_idle_s: float = Field(default=1_800.0, gt=0, le=86_400, description="A session unused this long ends.")
