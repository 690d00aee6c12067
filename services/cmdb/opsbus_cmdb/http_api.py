"""The CMDB's HTTP API: its paths and the bodies both sides read and write. The client is http_inventory.py, the
server http_server.py.

    GET   /api/v1/assets?text=&filter.<name>=&as_of=&limit=&cursor=&count_by=   AssetSlice
    GET   /api/v1/assets?text=&filter.<name>=&as_of=&group_by=          Groups
    GET   /api/v1/assets/{id, ref or name}                              Asset
    PATCH /api/v1/assets/{id}            If-Match: "<version>"          StatusPatch in, Asset out
    GET   /api/v1/topology/{service}?direction=&depth=&nodes_max=&type=&as_of=  Topology
    GET   /api/v1/changes?asset=&since=&until=&state=&type=&limit=&cursor=   ChangeSlice
    POST  /api/v1/changes                                               ChangeDraft in, Change out
    GET   /api/v1/changes/{number}                                      Change
    POST  /api/v1/changes/{number}/cancellation                         Cancellation in, Change out

With `as_of` (RFC 3339) the answer is of that time, and repeats it: an answer that does not is not believed.
Every request carries ``Authorization: Bearer <key>``.
An error is ``{"error": {code, message, hint, did_you_mean, details}}``.
"""

from pydantic import BaseModel, Field

from opsbus_cmdb.inventory import Group

ASSETS = "/api/v1/assets"
TOPOLOGY = "/api/v1/topology"
CHANGES = "/api/v1/changes"
CANCELLATION = "cancellation"
FILTER = "filter."


class Groups(BaseModel):
    """Counts per value."""

    groups: list[Group]


class StatusPatch(BaseModel):
    """What PATCH takes beside the version in If-Match."""

    field: str = Field(pattern="^(status|lifecycle)$")
    value: str = Field(min_length=1, max_length=32)
    reason: str = Field(min_length=1, max_length=2_000)
    actor: str = Field(min_length=1, max_length=256)
    call_id: str = Field(default="", max_length=64)
    change_id: str = Field(default="", max_length=64)


class Fault(BaseModel):
    """An error as the server words it."""

    code: str
    message: str
    hint: str = ""
    did_you_mean: list[str] = Field(default_factory=list)
    details: dict[str, object] = Field(default_factory=dict)


class FaultBody(BaseModel):
    """The body of every error."""

    error: Fault
