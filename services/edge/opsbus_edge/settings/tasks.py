"""Long calls that clients poll for (the MCP extension ``io.modelcontextprotocol/tasks``)."""

from pydantic import Field

from opsbus.settings import Settings


class TaskSettings(Settings):
    """Part of EdgeSettings."""

    task_after_s: float = Field(
        default=5.0,
        ge=0,
        le=3600,
        description="A call that takes longer becomes a task, for clients that declare tasks; 0: none does.",
    )
    task_ttl_s: float = Field(
        default=3_600.0, gt=0, le=43_200, description="A task is kept this long after it ended or began to wait."
    )
    tasks_per_caller: int = Field(
        default=50, ge=1, le=1_000, description="Tasks of one caller over all edges; further calls are waited for."
    )
    task_result_bytes_max: int = Field(
        default=524_288, ge=1_024, le=900_000, description="A larger result is not kept: result_too_large."
    )
