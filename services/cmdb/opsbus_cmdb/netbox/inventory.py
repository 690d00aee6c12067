"""The NetBox backend: an inventory that is NetBox, asked live and only read. How a question becomes requests is
questions.py's, how an answer becomes assets mapping.py's."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import NoReturn, Self

from opsbus import ErrorCode, ToolError
from opsbus.owners import Owned
from opsbus.toolerror import near
from opsbus_cmdb.history import rank
from opsbus_cmdb.inventory import AssetSlice, ChangeSlice, Group, Topology
from opsbus_cmdb.model import Asset, Change, Status
from opsbus_cmdb.netbox.client import NetBox
from opsbus_cmdb.netbox.mapping import (
    BY_NAME,
    KINDS,
    LOCATION,
    SITE,
    Kind,
    People,
    asset_of,
    key_of,
    kind_of,
    name_of,
    parse_key,
    parse_ref,
    people,
    ref_of,
)
from opsbus_cmdb.netbox.questions import Question, matches, no_past, questions
from opsbus_cmdb.netbox.schema import Contact, ContactAssignment, Listing, Object
from opsbus_cmdb.netbox.token import read_token
from opsbus_cmdb.netbox.walk import walk
from opsbus_cmdb.owned import paged
from opsbus_cmdb.query import (
    AssetQuery,
    Cancellation,
    ChangeDraft,
    ChangeQuery,
    StatusChange,
    TopologyQuery,
    decode_cursor,
    encode_cursor,
)
from opsbus_cmdb.settings import CmdbSettings
from opsbus_cmdb.workloads import Workload
from opsbus_contracts import Executed

SCAN_MAX = 1_000
"""Matches that are read, sorted and counted here; of more a page in NetBox's order is read, and only what NetBox counts
is counted."""
_PAGE = 250
_NEAR = 20
_PEOPLE_MAX = 20
_COUNTED = ("kind", "asset_class", "status", "source")
_NOT_COUNTED = "(too many to count)"
_NO_CHANGES = "NetBox keeps no change records and no calendar"


class NetBoxInventory:
    """An `Inventory` that is a NetBox. Open it with ``async with``."""

    def __init__(self, netbox: NetBox) -> None:
        self._netbox = netbox
        self.source = f"netbox ({netbox.where})"

    @classmethod
    def named_by(cls, settings: CmdbSettings) -> Self:
        """The one that the settings name.

        Raises:
            ValueError: the address or the token is none.
        """
        token = settings.netbox_token.get_secret_value() or read_token(settings.netbox_token_file)
        return cls(
            NetBox(
                settings.netbox_url,
                token,
                timeout_s=settings.timeout_s,
                body_bytes_max=settings.body_bytes_max,
                ca_file=settings.netbox_ca_file,
            )
        )

    async def __aenter__(self) -> Self:
        await self._netbox.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._netbox.__aexit__(kind, error, trace)

    async def find_assets(
        self, query: AssetQuery, limit: int, cursor: str | None, count_by: Sequence[str] = ()
    ) -> AssetSlice:
        """See Inventory. Past a thousand matches: the unhealthy first, then by kind and NetBox's number."""
        asked = await questions(self._netbox, query)
        first = await self._each([self._page(question, _PAGE) for question in asked])
        searched = bool(query.text) and _too_many(first)
        if searched:
            asked = await questions(self._netbox, query, search=True)
            first = await self._each([self._page(question, _PAGE) for question in asked])
        if _too_many(first):
            return await self._of_many(asked, query, limit, cursor, count_by)
        read = await self._rest(asked, first)
        found = {asset.id: asset for asset in read if matches(asset, query, searched=searched)}
        ordered = sorted(found.values(), key=_place)
        begin = decode_cursor(cursor, query.digest(), (int, str)) if cursor else None
        left = [asset for asset in ordered if begin is None or [*_place(asset)] > begin]
        kept = left[:limit]
        cursors = [encode_cursor(query.digest(), [*_place(asset)]) for asset in kept]
        return AssetSlice(
            items=kept,
            total=len(ordered),
            next_cursor=cursors[-1] if len(left) > limit else None,
            cursors=cursors,
            groups={name: _groups(Counter(str(getattr(asset, name)) for asset in ordered)) for name in count_by},
        )

    async def count_assets(self, query: AssetQuery, group_by: str) -> list[Group]:
        """See Inventory."""
        return (await self.find_assets(query, 1, None, [group_by])).groups[group_by]

    async def get_asset(self, key: str) -> Asset:
        """See Inventory. Also by NetBox's own key: `dcim.device:12`."""
        obj = await self._object(key)
        return self._asset(obj, await self._people([obj]))

    async def topology(self, key: str, query: TopologyQuery) -> Topology:
        """See Inventory: sites, locations, clusters, devices, machines and services, as NetBox relates them."""
        if query.as_of is not None:
            raise no_past()
        root = await self._object(key)
        found = await walk(self._netbox, root, query)
        known = await self._people(found.objects()) if len(found.nodes) <= _PEOPLE_MAX else People()
        return found.told(key_of(root), lambda obj: self._asset(obj, known))

    async def set_status(self, asset_id: str, change: StatusChange) -> Asset:
        """See Inventory: refused."""
        _read_only("a status")

    async def find_changes(self, query: ChangeQuery, limit: int, cursor: str | None) -> ChangeSlice:
        """See Inventory: NetBox has none, and the answer says so."""
        return ChangeSlice(items=[], total=0, unknown=_NO_CHANGES)

    async def get_change(self, number: str) -> Change:
        """See Inventory: there is none."""
        raise ToolError(
            ErrorCode.NOT_FOUND, f"no change {number!r}: NetBox keeps no change records", hint="ask with asset instead"
        )

    async def workloads(self, namespaces: list[str]) -> list[Workload] | None:
        """See Inventory: NetBox has none."""
        return None

    async def owned(self, most: int) -> list[Owned]:
        """See Inventory."""
        return await paged(self, most)

    async def owners_mark(self) -> str | None:
        """See Inventory: NetBox would have to be read."""
        return None

    async def create_change(self, draft: ChangeDraft) -> Change:
        """See Inventory: refused."""
        _read_only("a change")

    async def cancel_change(self, number: str, cancellation: Cancellation) -> Change:
        """See Inventory: refused."""
        _read_only("a change")

    def _asset(self, obj: Object, known: People | None = None) -> Asset:
        return asset_of(obj, known or People(), self._netbox.where)

    async def _each(self, work: list[object]) -> list[Listing[Object]]:
        return list(await asyncio.gather(*work))  # type: ignore[call-overload]

    async def _page(self, question: Question, limit: int, after: int = 0) -> Listing[Object]:
        return await self._netbox.page(question.kind.path, question.kind.model, question.asked(), limit, after)

    async def _rest(self, asked: list[Question], first: list[Listing[Object]]) -> list[Asset]:
        found: list[Asset] = []
        for question, begin in zip(asked, first, strict=True):
            page = begin
            found += [self._asset(obj) for obj in page.results]
            while page.next and len(found) <= 2 * SCAN_MAX:
                page = await self._page(question, _PAGE, page.results[-1].id)
                found += [self._asset(obj) for obj in page.results]
        return found

    async def _of_many(
        self, asked: list[Question], query: AssetQuery, limit: int, cursor: str | None, count_by: Sequence[str]
    ) -> AssetSlice:
        """A page that NetBox puts together: by status, kind and number."""
        rough = [question.kind.name for question in asked if not question.exact]
        if rough:
            raise ToolError(
                ErrorCode.RESULT_TOO_LARGE,
                f"more than {SCAN_MAX:,} objects of NetBox may match, and it cannot say which do ({', '.join(rough)})",
                hint="narrow it by kind, status, namespace (a device's site), label.tag/<slug> or owner_team",
            )
        parts = [(status, part) for status in Status for whole in asked if (part := whole.narrowed(status))]
        counts = await asyncio.gather(*(self._count(part) for _, part in parts))
        digest = f"{query.digest()}*"
        at, after = decode_cursor(cursor, digest, (int, int)) if cursor else (0, 0)
        items: list[Asset] = []
        cursors: list[str] = []
        more = False
        for place in range(at, len(parts)):
            if not counts[place]:
                continue
            if len(items) == limit:
                more = True
                break
            page = await self._page(parts[place][1], limit - len(items), after if place == at else 0)
            for obj in page.results:
                asset = self._asset(obj)
                if not matches(asset, query, searched=True) or asset.status is not parts[place][0]:
                    raise _ignored(self._netbox, parts[place][1])
                items.append(asset)
                cursors.append(encode_cursor(digest, [place, obj.id]))
            more = page.next is not None
            if more:
                break
        counted = dict(zip(((status, part.kind) for status, part in parts), counts, strict=True))
        return AssetSlice(
            items=items,
            total=sum(counts),
            next_cursor=cursors[-1] if more and cursors else None,
            cursors=cursors,
            groups={name: _told(name, counted) for name in count_by},
        )

    async def _count(self, question: Question) -> int:
        return await self._netbox.count(question.kind.path, question.asked())

    async def _object(self, key: str) -> Object:
        parsed = parse_key(key)
        if parsed:
            obj = await self._netbox.one(parsed[0].path, parsed[1], parsed[0].model)
            if obj is not None:
                return obj
            raise await self._unknown(key, key)
        named = parse_ref(key)
        kind = BY_NAME.get(named[0]) if named else None
        if named and kind:
            found = [obj for obj in await self._called(kind, named[2]) if ref_of(obj) == key]
        else:
            called = await asyncio.gather(*(self._called(kind, key) for kind in KINDS))
            found = [obj for some in called for obj in some if key in (name_of(obj), obj.name)]
        if len(found) == 1:
            return found[0]
        if found:
            refs = [ref_of(obj) for obj in found[:10]]
            raise ToolError(
                ErrorCode.CONFLICT,
                f"{'more than 10' if len(found) > 10 else len(found)} objects of NetBox are called {key!r}",
                hint="name one by its ref, or by NetBox's key (dcim.device:12)",
                did_you_mean=refs if len(set(refs)) == len(refs) else [key_of(obj) for obj in found[:10]],
            )
        raise await self._unknown(key, named[2] if named else key)

    async def _called(self, kind: Kind, name: str) -> list[Object]:
        if name.startswith("#") and name[1:].isdecimal() and len(name) < 18:
            obj = await self._netbox.one(kind.path, int(name[1:]), kind.model)
            return [obj] if obj is not None and not obj.name else []
        by = "slug" if kind in (SITE, LOCATION) else "name"
        return (await self._netbox.page(kind.path, kind.model, [(by, name)], 50)).results

    async def _unknown(self, key: str, name: str) -> ToolError:
        refs: dict[str, str] = {}
        start = [("name__isw", name[:3])]
        kinds = [kind for kind in KINDS if kind not in (SITE, LOCATION) and name.strip()]
        for page in await asyncio.gather(*(self._netbox.page(k.path, k.model, start, _NEAR) for k in kinds)):
            refs |= {called: ref_of(obj) for obj in page.results for called in (name_of(obj), ref_of(obj))}
        return ToolError(
            ErrorCode.NOT_FOUND,
            f"no asset {key!r} in NetBox, or none that its token may see",
            hint="cmdb_query_assets finds assets; id, ref (kind:namespace/name) and unique names are understood",
            did_you_mean=list(dict.fromkeys(refs[found] for found in near(name, list(refs)))),
        )

    async def _people(self, objects: list[Object]) -> People:
        """The contacts of objects and of their tenants; none where the token may not read them."""
        wanted: dict[str, set[int]] = {}
        for obj in objects:
            wanted.setdefault(kind_of(obj).object_type, set()).add(obj.id)
            tenant = getattr(obj, "tenant", None)
            if tenant is not None:
                wanted.setdefault("tenancy.tenant", set()).add(tenant.id)
        try:
            assigned: list[ContactAssignment] = []
            for type_, ids in wanted.items():
                params = [("object_type", type_), *(("object_id", str(number)) for number in sorted(ids))]
                page = await self._netbox.page("tenancy/contact-assignments", ContactAssignment, params, _PAGE)
                assigned += [item for item in page.results if item.object_type == type_ and item.object_id in ids]
            if not assigned:
                return People()
            ids_of = sorted({item.contact.id for item in assigned})
            contacts = await self._netbox.page("tenancy/contacts", Contact, [("id", str(n)) for n in ids_of], _PAGE)
        except ToolError as error:
            if error.details.get("permission"):
                return People()
            raise
        return people(assigned, contacts.results)


def _too_many(pages: list[Listing[Object]]) -> bool:
    return sum(page.count or 0 for page in pages) > SCAN_MAX


def _place(asset: Asset) -> tuple[int, str]:
    return rank(asset.status, asset.criticality), asset.ref


def _groups(counted: Counter[str]) -> list[Group]:
    return [
        Group(value=value, count=n) for value, n in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:200]
    ]


def _told(name: str, counted: dict[tuple[Status, Kind], int]) -> list[Group]:
    """Counts of what NetBox counts for us."""
    if name not in _COUNTED:
        return [Group(value=_NOT_COUNTED, count=sum(counted.values()))]
    found: Counter[str] = Counter()
    for (status, kind), count in counted.items():
        value = {"kind": kind.name, "asset_class": kind.asset_class, "status": status.value, "source": "netbox"}[name]
        found[value] += count
    return _groups(+found)


def _ignored(netbox: NetBox, question: Question) -> ToolError:
    names = ", ".join(dict.fromkeys(name for name, _ in question.params)) or "nothing"
    return ToolError(
        ErrorCode.BACKEND_ERROR,
        f"NetBox at {netbox.where} answered {question.kind.path} with what was not asked for (by {names})",
        hint="this version ignores a filter that 4.x has, or has a status configured under a name of another meaning",
    )


def _read_only(what: str) -> NoReturn:
    raise ToolError(
        ErrorCode.PRECONDITION_FAILED,
        f"{what} is not written to NetBox: its status is what is planned, not how an asset does right now",
        hint="change it in NetBox, or keep a CMDB of our own beside it: opsbus cmdb import --netbox",
        executed=Executed.NO,
    )
