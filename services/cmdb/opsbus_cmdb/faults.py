"""What a caller sees when the embedded store's database does not answer."""

from opsbus import ErrorCode, ToolError


def unavailable(what: str, error: Exception) -> ToolError:
    """A database error as a caller may see it: no statement, no address, no secret."""
    return ToolError(
        ErrorCode.BACKEND_UNAVAILABLE,
        f"the CMDB's database did not answer while {what} ({type(error).__name__})",
        hint="try again shortly; if it stays, check the database behind OPSBUS_CMDB_DATABASE_URL and the worker's log",
    )
