"""Which status may follow which, for both status fields of an asset. Pure rules: no storage, no tool."""

from typing import Literal

from opsbus import ErrorCode, ToolError
from opsbus_cmdb.model import Asset, Lifecycle, Status

OPERATIONAL: dict[Status, tuple[Status, ...]] = {
    Status.OPERATIONAL: (Status.DEGRADED, Status.DOWN, Status.MAINTENANCE),
    Status.DEGRADED: (Status.OPERATIONAL, Status.DOWN, Status.MAINTENANCE),
    Status.DOWN: (Status.DEGRADED, Status.OPERATIONAL, Status.MAINTENANCE),
    Status.MAINTENANCE: (Status.OPERATIONAL, Status.DEGRADED, Status.DOWN),
    Status.UNKNOWN: (Status.OPERATIONAL, Status.DEGRADED, Status.DOWN, Status.MAINTENANCE),
}
"""Nothing becomes `unknown` by hand: only a source that lost sight of the asset records that."""

LIFECYCLE: dict[Lifecycle, tuple[Lifecycle, ...]] = {
    Lifecycle.PLANNED: (Lifecycle.DEPLOYING, Lifecycle.RETIRED),
    Lifecycle.DEPLOYING: (Lifecycle.ACTIVE, Lifecycle.PLANNED),
    Lifecycle.ACTIVE: (Lifecycle.RETIRING,),
    Lifecycle.RETIRING: (Lifecycle.RETIRED, Lifecycle.ACTIVE),
    Lifecycle.RETIRED: (),
}
"""`retired` is the end: an asset that comes back is a new asset."""

RUNNING = (Lifecycle.DEPLOYING, Lifecycle.ACTIVE, Lifecycle.RETIRING)
"""Only an asset that runs has an operational status worth changing."""

StatusField = Literal["status", "lifecycle"]
StatusValue = Literal[
    "operational", "degraded", "down", "maintenance", "planned", "deploying", "active", "retiring", "retired"
]
"""What may be asked for. The two fields share no value, so a value names its field."""


def field_of(value: str) -> StatusField:
    """The asset's field that ``value`` belongs to."""
    return "lifecycle" if value in set(Lifecycle) else "status"


def allowed(asset: Asset, field: StatusField) -> list[str]:
    """The values that ``field`` may take next."""
    if field == "lifecycle":
        return [value.value for value in LIFECYCLE[asset.lifecycle]]
    return [value.value for value in OPERATIONAL[asset.status]] if asset.lifecycle in RUNNING else []


def reversible(asset: Asset, value: str) -> bool:
    """Whether the way back from ``value`` to what ``asset`` has now is allowed."""
    field = field_of(value)
    after = asset.model_copy(update={field: Lifecycle(value) if field == "lifecycle" else Status(value)})
    return getattr(asset, field).value in allowed(after, field)


def check_transition(asset: Asset, value: str) -> StatusField:
    """Refuse what the state machine does not allow, naming what it does.

    Raises:
        ToolError: ``conflict`` when the asset has the value already, ``precondition_failed`` when the way is not
        allowed.
    """
    field = field_of(value)
    before = getattr(asset, field).value
    if before == value:
        raise ToolError(
            ErrorCode.CONFLICT,
            f"{asset.ref} is {value} already",
            hint="nothing to do; cmdb_query_assets shows its version and when it changed",
        )
    ways = allowed(asset, field)
    if value in ways:
        return field
    if not ways and field == "status":
        hint = f"only an asset in lifecycle {', '.join(RUNNING)} has an operational status to change"
    elif not ways:
        hint = f"{before} is the end of an asset's life; record a new asset instead"
    else:
        hint = f"from {before} it may become {', '.join(ways)}"
    raise ToolError(
        ErrorCode.PRECONDITION_FAILED,
        f"{asset.ref} cannot go from {before} to {value} (lifecycle {asset.lifecycle.value})",
        hint=hint,
        details={"field": field, "current": before, "allowed": ways},
    )
