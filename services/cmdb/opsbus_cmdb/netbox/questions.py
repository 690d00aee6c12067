"""A question about assets as requests that NetBox understands.

NetBox ignores a filter it does not know and answers with everything: so what it has no filter for is refused or sorted
out here, and every answer is checked against the question.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from opsbus import ErrorCode, ToolError
from opsbus.toolerror import near
from opsbus_cmdb.model import Asset, Status
from opsbus_cmdb.netbox.client import NetBox, Params
from opsbus_cmdb.netbox.mapping import (
    BY_NAME,
    CUSTOM,
    DEVICE,
    KINDS,
    LOCATION,
    OTHER,
    SITE,
    SOURCE,
    STATUSES,
    VM,
    Kind,
    parse_key,
    parse_ref,
)
from opsbus_cmdb.netbox.schema import CustomField, Tenant
from opsbus_cmdb.query import LABEL, AssetQuery

LABELS = ("site", "location", "role", "platform", "tenant", "region", "tag/<slug>")
_KNOWN = (
    "kind", "asset_class", "source", "id", "ref", "name", "namespace", "status", "lifecycle", "owner_team", *CUSTOM
)  # fmt: skip
_PLACES = (SITE, LOCATION)
_BY_SLUG = {"site": (DEVICE, LOCATION, VM), "tenant": (SITE, LOCATION, DEVICE, VM, BY_NAME["cluster"])}
"""Labels that are a filter by slug which means the same as the label, and for which kinds."""


@dataclass(frozen=True)
class Question:
    """What one list of NetBox is asked."""

    kind: Kind
    params: tuple[tuple[str, str], ...] = ()
    statuses: tuple[Status, ...] = tuple(Status)
    exact: bool = True
    """Whether NetBox's count is the count: nothing has to be sorted out of the answer."""

    def asked(self) -> Params:
        """The parameters of the request."""
        return list(self.params)

    def narrowed(self, status: Status) -> "Question | None":
        """The same about one operational status; None: nothing can have it."""
        if status not in self.statuses or not _possible(self.kind, {status}):
            return None
        kept = tuple((name, value) for name, value in self.params if name not in ("status", "status__n"))
        own = [value for value in self._allowed() if _meaning(value)[1] is status]
        if not self.kind.statuses:
            return replace(self, statuses=(status,))
        params = _by_status(self.kind, own, others=status is OTHER[1] and self._others())
        return replace(self, params=(*kept, *params), statuses=(status,)) if params is not None else None

    def _allowed(self) -> list[str]:
        chosen = [value for name, value in self.params if name == "status"]
        shut = {value for name, value in self.params if name == "status__n"}
        return chosen or [value for value in self.kind.statuses if value not in shut]

    def _others(self) -> bool:
        return not any(name == "status" for name, _ in self.params)


def _meaning(status: str) -> tuple[Any, Status]:
    return STATUSES.get(status, OTHER)


def _possible(kind: Kind, wanted: set[Status]) -> bool:
    meant = {_meaning(status)[1] for status in kind.statuses} | {OTHER[1]}
    return bool(meant & wanted)


def _by_status(kind: Kind, own: list[str], *, others: bool) -> tuple[tuple[str, str], ...] | None:
    """Those of ``own``; with ``others`` also every status that is configured beside NetBox's own."""
    if others:
        return tuple(("status__n", value) for value in kind.statuses if value not in own)
    return tuple(("status", value) for value in own) or None


async def questions(netbox: NetBox, query: AssetQuery, *, search: bool = False) -> list[Question]:
    """What to ask; nothing that is not asked can match.

    Args:
        search: Whether NetBox looks for the longest word of the text: in names, serials, descriptions and comments, not
            in what we call a ref or an owner.

    Raises:
        ToolError: ``invalid_arguments`` for what this NetBox has no field of.
    """
    if query.as_of is not None:
        raise no_past()
    strange = [name for name in query.filters if name not in _KNOWN and not name.startswith(LABEL)]
    if strange:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"NetBox has nothing that {strange[0]!r} could filter by, and would answer with everything",
            hint=f"it has {', '.join(_KNOWN)}, {LABEL}<key>",
        )
    fields = await _custom_fields(netbox, query)
    tenants = await _tenants(netbox, query.filters.get("owner_team", []))
    asked: list[Question] = []
    for kind in KINDS:
        question = _plain(kind, query, search=search)
        for name, values in query.filters.items():
            if question is None:
                break
            if name == "owner_team":
                question = _with(question, [("tenant", slug) for slug in tenants]) if _has(kind, "tenant") else None
                question = question if tenants else None
            elif name in CUSTOM:
                question = _by_custom(question, name, values, fields)
            elif name.startswith(LABEL):
                question = _by_label(question, name.removeprefix(LABEL), values)
        if question is not None:
            asked.append(question)
    return asked


def no_past() -> ToolError:
    """NetBox's change log is no history that could be asked."""
    return ToolError(
        ErrorCode.INVALID_ARGUMENTS,
        "NetBox is asked live, and knows only what is",
        hint="leave as_of out; the past is kept by the embedded store, that NetBox can be imported into",
    )


def matches(asset: Asset, query: AssetQuery, *, searched: bool = False) -> bool:
    """Whether an asset is meant. ``searched``: NetBox has looked for the longest word already."""
    for name, values in query.filters.items():
        found = asset.labels.get(name.removeprefix(LABEL)) if name.startswith(LABEL) else getattr(asset, name)
        if str(found) not in values:
            return False
    words = _words(query)[1 if searched else 0 :]
    if not words:
        return True
    told = (asset.ref, asset.description, asset.owner_team, str(asset.attributes), str(asset.external_ids))
    text = " ".join(told).lower()
    return all(word in text for word in words)


def _words(query: AssetQuery) -> list[str]:
    """The longest first: the fewest have it."""
    return sorted(query.text.lower().split(), key=lambda word: (-len(word), word))


def _plain(kind: Kind, query: AssetQuery, *, search: bool) -> Question | None:
    filters = query.filters
    for name, own in (("kind", kind.name), ("asset_class", kind.asset_class), ("source", SOURCE)):
        if name in filters and own not in filters[name]:
            _known_kind(name, filters[name])
            return None
    question: Question | None = Question(kind)
    words = _words(query)
    if words:
        params = (("q", words[0]),) if search else ()
        question = replace(Question(kind), params=params, exact=search and len(words) == 1)
    for name, find in (("id", _by_id), ("ref", _by_ref), ("name", _by_name), ("namespace", _by_namespace)):
        if name in filters and question is not None:
            question = find(question, filters[name])
    if question is not None and ("status" in filters or "lifecycle" in filters):
        question = _by_state(question, filters.get("status"), filters.get("lifecycle"))
    return question


def _known_kind(name: str, values: list[str]) -> None:
    strange = [value for value in values if value not in BY_NAME] if name == "kind" else []
    if strange:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"NetBox has no assets of kind {strange[0]!r}",
            hint=f"it has {', '.join(BY_NAME)}; what else a device or machine is stands in label.role",
            did_you_mean=near(strange[0], list(BY_NAME)),
        )


def _with(question: Question, params: Iterable[tuple[str, str]], *, exact: bool = True) -> Question:
    return replace(question, params=(*question.params, *params), exact=question.exact and exact)


def _has(kind: Kind, name: str) -> bool:
    return name in kind.model.model_fields


def _by_id(question: Question, values: list[str]) -> Question | None:
    parsed = [parse_key(value) for value in values]
    own = [("id", str(found[1])) for found in parsed if found and found[0] is question.kind]
    return _with(question, own) if own else None


def _by_ref(question: Question, values: list[str]) -> Question | None:
    parsed = [parse_ref(value) for value in values]
    own = [found[2] for found in parsed if found and found[0] == question.kind.name]
    return _by_name(question, own) if own else None


def _by_name(question: Question, values: list[str]) -> Question | None:
    # NetBox compares some names without regard to case; the rest is sorted out of the answer.
    if any(value.startswith("#") for value in values):
        return replace(question, exact=False)
    name = "slug" if question.kind in _PLACES else "name"
    return _with(question, [(name, _spelled(value)) for value in values], exact=False)


def _spelled(value: str) -> str:
    parsed = parse_ref(f"x:/{value}")
    return parsed[2] if parsed else value


def _by_namespace(question: Question, values: list[str]) -> Question | None:
    if question.kind is SITE:
        return None
    if question.kind in (DEVICE, LOCATION) and len(values) == 1:
        return _with(question, [("site", _spelled(values[0]))])
    return replace(question, exact=False)


def _by_state(question: Question, statuses: list[str] | None, lifecycles: list[str] | None) -> Question | None:
    def wanted(meaning: tuple[Any, Status]) -> bool:
        return (statuses is None or meaning[1] in statuses) and (lifecycles is None or meaning[0] in lifecycles)

    others = wanted(OTHER)
    if not question.kind.statuses:
        return question if others else None
    own = [status for status in question.kind.statuses if wanted(_meaning(status))]
    params = _by_status(question.kind, own, others=others)
    if params is None:
        return None
    meant = {_meaning(status)[1] for status in own} | ({OTHER[1]} if others else set())
    # Of statuses that are configured beside NetBox's own some may mean more than `unknown`.
    return replace(_with(question, params), statuses=tuple(status for status in Status if status in meant))


def _by_custom(question: Question, name: str, values: list[str], fields: list[CustomField]) -> Question | None:
    if not any(field.name == name and question.kind.object_type in field.object_types for field in fields):
        return None
    if name == "criticality" and "medium" in values:
        return replace(question, exact=False)  # it is also that of what has none recorded
    return _with(question, [(f"cf_{name}", value) for value in values], exact=False)


def _by_label(question: Question, key: str, values: list[str]) -> Question | None:
    if key.startswith("tag/") and len(key) > len("tag/"):
        return _with(question, [("tag", key.removeprefix("tag/"))]) if "true" in values else None
    if key not in LABELS:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS,
            f"NetBox has nothing that label.{key} could filter by, and would answer with everything",
            hint=f"labels of its assets: {', '.join(LABELS)}",
            did_you_mean=[f"{LABEL}{name}" for name in near(key, list(LABELS))],
        )
    if not _has(question.kind, key):
        return None
    if len(values) == 1 and question.kind in _BY_SLUG.get(key, ()):
        return _with(question, [(key, values[0])])
    if len(values) == 1 and key in ("role", "platform"):
        return _with(question, [(key, values[0])], exact=False)  # roles within roles are found too
    return replace(question, exact=False)


async def _custom_fields(netbox: NetBox, query: AssetQuery) -> list[CustomField]:
    asked = [name for name in CUSTOM if name in query.filters]
    if not asked:
        return []
    found = await netbox.all("extras/custom-fields", CustomField, [])
    for name in asked:
        if not any(
            field.name == name and set(field.object_types) & {kind.object_type for kind in KINDS} for field in found
        ):
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                f"this NetBox has no custom field {name!r}, and would answer with everything",
                hint="filter by label.tag/<slug>, label.role or namespace (a site), or add the field to NetBox",
            )
    return found


async def _tenants(netbox: NetBox, names: list[str]) -> list[str]:
    if not names:
        return []
    found = await netbox.all("tenancy/tenants", Tenant, [("name", name) for name in names])
    return [tenant.slug for tenant in found if tenant.name in names]
