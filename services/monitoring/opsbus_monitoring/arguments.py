"""The types of arguments that several tools share, with their bounds and descriptions."""

from typing import Annotated

from pydantic import Field

Limit = Annotated[int, Field(ge=1, le=500, description="Rows in this answer, at most.")]
PageCursor = Annotated[str | None, Field(max_length=200, description="next_cursor of the answer before.")]
Matchers = Annotated[
    list[Annotated[str, Field(max_length=500)]],
    Field(max_length=10, description='All of which hold: ["alertname=\\"DiskFull\\"", "namespace=~\\"shop.*\\""].'),
]
Reason = Annotated[str, Field(min_length=3, max_length=500, description="Why: for the audit log and for on-call.")]
DryRun = Annotated[bool, Field(description="Only show the plan.")]
Confirm = Annotated[
    str | None, Field(max_length=2000, description="The token of a confirmation_required answer, once a person agreed.")
]
IdempotencyKey = Annotated[
    str | None, Field(max_length=200, description="The same key and arguments again return the first outcome.")
]
