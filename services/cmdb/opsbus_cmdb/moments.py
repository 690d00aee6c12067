"""The argument `as_of` of the reading tools: what it means, and what an answer about the past must say."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import Field

from opsbus import ErrorCode, ToolError
from opsbus.when import parse_when
from opsbus_cmdb.model import Asset

AsOf = Annotated[
    str | None,
    Field(description="As it was recorded then: RFC 3339 or now-2h; default: now.", max_length=64),
]
_SKEW = timedelta(seconds=5)


def past(text: str | None) -> datetime | None:
    """The time asked about; None: the present.

    Raises:
        ToolError: ``invalid_arguments`` for what is no time, or lies ahead.
    """
    if text is None or text.strip() == "now":
        return None
    now = datetime.now(UTC)
    moment = parse_when(text, "as_of", now, future=True)
    if moment > now + _SKEW:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"as_of: {text[:60]!r} lies ahead",
            hint="the CMDB knows what was and what is; for plans use cmdb_get_change_records",
        )
    return moment


def reservations(as_of: datetime | None, assets: list[Asset], undated: int = 0) -> list[str]:
    """What a reader of an answer about the past must know."""
    if as_of is None:
        return []
    told = [f"as recorded at {as_of:%Y-%m-%d %H:%M:%S} UTC, not as it is now"]
    later = sum(asset.updated_at > as_of for asset in assets)
    if later:
        told.append(
            f"{later} of the assets shown were changed between that time and the begin of the recorded history:"
            " they are shown as they were first recorded here"
        )
    if undated:
        told.append(f"of {undated} relationships shown the beginning is not recorded: they may be younger")
    return told
