"""What a line of a file may say: assets, relationships, calendar windows. Reading and writing live beside."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from opsbus_cmdb.model import Criticality, Lifecycle, RelationType, Status, WindowKind

Kind = Literal["assets", "relationships", "windows"]


def _aware(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone: 2026-01-31T10:00:00Z")
    return moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_aware)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class AssetLine(_Line):
    """An asset. What is not given stays as it is, or gets its default when the asset is new."""

    ref: str = Field(min_length=3, max_length=400, pattern=r"^[^:/\s]+:[^/\s]*/\S+$")
    id: str | None = Field(default=None, min_length=1, max_length=128)
    kind: str | None = Field(default=None, max_length=64)
    namespace: str | None = Field(default=None, max_length=128)
    name: str | None = Field(default=None, max_length=200)
    asset_class: str = Field(default="", max_length=64)
    description: str = Field(default="", max_length=4_000)
    environment: str = Field(default="", max_length=64)
    lifecycle: Lifecycle = Lifecycle.ACTIVE
    status: Status = Status.UNKNOWN
    criticality: Criticality = Criticality.MEDIUM
    owner_team: str = Field(default="", max_length=128)
    attributes: dict[str, Any] = Field(default_factory=dict, max_length=200)
    labels: dict[str, str] = Field(default_factory=dict, max_length=200)
    external_ids: dict[str, str] = Field(default_factory=dict, max_length=50)
    source: str = Field(default="", max_length=128)
    confidence: float = Field(default=1.0, ge=0, le=1)
    last_seen: Moment | None = None
    created_at: Moment | None = None
    version: int | None = Field(default=None, description="Ignored: the store counts.")
    updated_at: Moment | None = Field(default=None, description="Ignored: the store knows.")

    @model_validator(mode="after")
    def _agrees_with_its_ref(self) -> Self:
        kind, _, path = self.ref.partition(":")
        namespace, _, name = path.partition("/")
        for field, value, room in (("kind", kind, 64), ("namespace", namespace, 128), ("name", name, 200)):
            if len(value) > room:
                raise ValueError(f"the {field} in ref has more than {room} characters")
            given = getattr(self, field)
            if given not in (None, value):
                raise ValueError(f"{field} {given!r} is not that of ref {self.ref!r} (kind:namespace/name)")
        return self

    def parts(self) -> dict[str, str]:
        """Kind, namespace and name, as its ref says."""
        kind, _, path = self.ref.partition(":")
        namespace, _, name = path.partition("/")
        return {"kind": kind, "namespace": namespace, "name": name}


class RelationshipLine(_Line):
    """`from` needs `to`; both are refs or ids of assets in the files or the store."""

    from_: str = Field(alias="from", min_length=1, max_length=400)
    to: str = Field(min_length=1, max_length=400)
    type: RelationType
    impact: Literal["hard", "soft"] = "hard"
    redundancy: str = Field(default="none", max_length=64)
    source: str = Field(default="", max_length=128)
    last_seen: Moment | None = None

    @model_validator(mode="after")
    def _two_ends(self) -> Self:
        if self.from_ == self.to:
            raise ValueError("from and to are the same asset")
        return self


class WindowLine(_Line):
    """A freeze or maintenance window."""

    id: str = Field(min_length=1, max_length=128)
    kind: WindowKind
    title: str = Field(min_length=1, max_length=400)
    reason: str = Field(default="", max_length=4_000)
    start: Moment
    end: Moment
    selector: dict[str, str] = Field(default_factory=dict, max_length=20)

    @model_validator(mode="after")
    def _ends_later(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end is not after start")
        return self


Line = AssetLine | RelationshipLine | WindowLine
LINES: dict[Kind, type[AssetLine] | type[RelationshipLine] | type[WindowLine]] = {
    "assets": AssetLine,
    "relationships": RelationshipLine,
    "windows": WindowLine,
}
MAPS: dict[Kind, dict[str, str]] = {
    "assets": {"label.": "labels", "attribute.": "attributes", "external_id.": "external_ids"},
    "relationships": {},
    "windows": {"selector.": "selector"},
}
"""In CSV a map is a column for each key: `label.app`."""


def fields(kind: Kind) -> list[str]:
    """Names a line may have, as files spell them; maps by their JSON name."""
    return [known.alias or name for name, known in LINES[kind].model_fields.items()]
