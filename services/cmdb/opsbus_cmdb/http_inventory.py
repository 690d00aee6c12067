"""The HTTP backend: an inventory that a CMDB keeps elsewhere. Bounded in time and size, and every failure says which
system and what to do."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from pydantic import BaseModel, ValidationError

from opsbus import ErrorCode, ToolError
from opsbus.guard import BackendShutError, Guard
from opsbus.owners import Owned
from opsbus_cmdb.http_api import ASSETS, CANCELLATION, CHANGES, FILTER, TOPOLOGY, Fault, FaultBody, Groups, StatusPatch
from opsbus_cmdb.http_backend import body_within, is_outage, is_passing, shut_out
from opsbus_cmdb.inventory import AssetSlice, ChangeSlice, Group, Topology
from opsbus_cmdb.model import Asset, Change
from opsbus_cmdb.owned import paged
from opsbus_cmdb.query import AssetQuery, Cancellation, ChangeDraft, ChangeQuery, StatusChange, TopologyQuery
from opsbus_cmdb.workloads import Workload
from opsbus_contracts import Executed

M = TypeVar("M", bound=BaseModel)
Then = TypeVar("Then", AssetSlice, Topology)
Params = list[tuple[str, str]]

_PASSED_ON = frozenset(
    {
        ErrorCode.NOT_FOUND,
        ErrorCode.CONFLICT,
        ErrorCode.PRECONDITION_FAILED,
        ErrorCode.INVALID_ARGUMENTS,
    }
)
"""Errors of the CMDB that are the caller's business; every other one is between the worker and the CMDB."""


class HttpInventory:
    """An `Inventory` behind ``/api/v1``. Open it with ``async with``."""

    def __init__(self, url: str, api_key: str, timeout_s: float = 10.0, body_bytes_max: int = 8_000_000) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("CMDB_URL must look like https://cmdb.example")
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        self._where = f"{parts.scheme}://{host}"
        self._base = f"{self._where}{parts.path.rstrip('/')}"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(timeout_s, 5.0))
        self._body_bytes_max = body_bytes_max
        self._session: aiohttp.ClientSession | None = None
        self._guard = Guard(is_outage, is_passing)
        self.source = f"cmdb ({self._where})"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def find_assets(
        self, query: AssetQuery, limit: int, cursor: str | None, count_by: Sequence[str] = ()
    ) -> AssetSlice:
        """See Inventory."""
        params = [*_asset_params(query), ("limit", str(limit)), *_given("cursor", cursor)]
        params += [("count_by", name) for name in count_by]
        found = self._of_then(await self._get(ASSETS, AssetSlice, params), query.as_of)
        for name in count_by:
            if name not in found.groups:  # a CMDB that counts in a request of its own
                found.groups[name] = await self.count_assets(query, name)
        return found

    async def count_assets(self, query: AssetQuery, group_by: str) -> list[Group]:
        """See Inventory."""
        return (await self._get(ASSETS, Groups, [*_asset_params(query), ("group_by", group_by)])).groups

    async def get_asset(self, key: str) -> Asset:
        """See Inventory."""
        return await self._get(f"{ASSETS}/{quote(key, safe='')}", Asset)

    async def topology(self, key: str, query: TopologyQuery) -> Topology:
        """See Inventory."""
        params = [
            ("direction", query.direction.value),
            ("depth", str(query.depth)),
            ("nodes_max", str(query.nodes_max)),
        ]
        params += [("type", kind.value) for kind in query.types]
        params += _given("as_of", query.as_of.isoformat() if query.as_of else None)
        return self._of_then(await self._get(f"{TOPOLOGY}/{quote(key, safe='')}", Topology, params), query.as_of)

    def _of_then(self, answer: Then, as_of: datetime | None) -> Then:
        """A CMDB that does not know `as_of` would answer with the present, as if it were the past."""
        if as_of is not None and answer.as_of != as_of:
            raise ToolError(
                ErrorCode.BACKEND_ERROR,
                f"the CMDB at {self._where} did not answer for the time asked: it keeps no history",
                hint="ask without as_of",
            )
        return answer

    async def set_status(self, asset_id: str, change: StatusChange) -> Asset:
        """See Inventory. When the answer stays away after the request went out, the outcome is unknown, and said to
        be."""
        patch = StatusPatch.model_validate(change.model_dump(exclude={"expected_version"}))
        return await self._ask(
            "PATCH",
            f"{ASSETS}/{quote(asset_id, safe='')}",
            Asset,
            headers={"If-Match": f'"{change.expected_version}"'},
            json=patch.model_dump(),
        )

    async def find_changes(self, query: ChangeQuery, limit: int, cursor: str | None) -> ChangeSlice:
        """See Inventory."""
        if query.assets is not None and not query.assets:
            return ChangeSlice(items=[], total=0)
        params: Params = [("asset", ref) for ref in query.assets or []]
        params += [("state", state.value) for state in query.states] + [("type", kind.value) for kind in query.types]
        params += [*_given("since", query.since.isoformat() if query.since else None)]
        params += [*_given("until", query.until.isoformat() if query.until else None)]
        return await self._get(CHANGES, ChangeSlice, [*params, ("limit", str(limit)), *_given("cursor", cursor)])

    async def get_change(self, number: str) -> Change:
        """See Inventory."""
        return await self._get(f"{CHANGES}/{quote(number, safe='')}", Change)

    async def workloads(self, namespaces: list[str]) -> list[Workload] | None:
        """See Inventory: this API has none."""
        return None

    async def owned(self, most: int) -> list[Owned]:
        """See Inventory."""
        return await paged(self, most)

    async def owners_mark(self) -> str | None:
        """See Inventory: this API has none."""
        return None

    async def create_change(self, draft: ChangeDraft) -> Change:
        """See Inventory."""
        return await self._ask("POST", CHANGES, Change, json=draft.model_dump(mode="json"))

    async def cancel_change(self, number: str, cancellation: Cancellation) -> Change:
        """See Inventory."""
        path = f"{CHANGES}/{quote(number, safe='')}/{CANCELLATION}"
        return await self._ask("POST", path, Change, json=cancellation.model_dump(mode="json"))

    async def _get(self, path: str, model: type[M], params: Params | None = None) -> M:
        return await self._ask("GET", path, model, params=params or [])

    async def _ask(self, method: str, path: str, model: type[M], **request: Any) -> M:
        through = self._guard.read if method == "GET" else self._guard.once
        try:
            return await through(lambda: self._asked(method, path, model, **request))
        except BackendShutError as shut:
            raise shut_out(shut) from None

    async def _asked(self, method: str, path: str, model: type[M], **request: Any) -> M:
        if self._session is None:
            raise RuntimeError("the HTTP inventory is used outside of its `async with`")
        try:
            # A redirect could carry the key to another host.
            async with self._session.request(method, self._base + path, allow_redirects=False, **request) as response:
                status, body = response.status, await self._body(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._no_answer(method, error) from error
        if status >= 300:
            self._refused(method, path, status, body)
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            raise ToolError(
                ErrorCode.BACKEND_ERROR if method == "GET" else ErrorCode.OUTCOME_UNKNOWN,
                f"the CMDB at {self._where} answered {method} {path} with something odd ({where}: {first['msg']})",
                hint="check that CMDB_URL points at a CMDB that speaks the API in opsbus_cmdb/http_api.py",
            ) from error

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        body = await body_within(response, self._body_bytes_max)
        if body is None:
            raise ToolError(
                ErrorCode.RESULT_TOO_LARGE,
                f"the CMDB at {self._where} answered with more than {self._body_bytes_max} bytes",
                hint="ask for less: a filter, a smaller limit, a smaller depth",
            )
        return body

    def _no_answer(self, method: str, error: Exception) -> ToolError:
        slow = isinstance(error, asyncio.TimeoutError)
        unsent = isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
        what = "did not answer in time" if slow else f"cannot be reached ({type(error).__name__})"
        if method != "GET" and not unsent:
            return ToolError(
                ErrorCode.OUTCOME_UNKNOWN,
                f"the CMDB at {self._where} {what} after the change was sent: it may have been recorded",
                hint="look at it with cmdb_query_assets or cmdb_get_change_records before trying again",
            )
        return ToolError(
            ErrorCode.BACKEND_UNAVAILABLE,
            f"the CMDB at {self._where} {what}",
            hint="check CMDB_URL and that the CMDB is up, then try again",
            details={"timed_out": slow},
            executed=Executed.NO,
        )

    def _refused(self, method: str, path: str, status: int, body: bytes) -> NoReturn:
        fault = _fault(body)
        if fault is not None and fault.code in _PASSED_ON:
            raise ToolError(
                ErrorCode(fault.code),
                fault.message,
                hint=fault.hint,
                did_you_mean=fault.did_you_mean,
                details=fault.details,
            )
        said = f": {fault.message}" if fault else ""
        if status in {401, 403}:
            raise ToolError(
                ErrorCode.BACKEND_ERROR,
                f"the CMDB at {self._where} refused the worker's key ({status})",
                hint="set CMDB_API_KEY to a key that may read assets and, for changes of status, write them",
                executed=Executed.NO,
            )
        if status == 404:
            raise ToolError(
                ErrorCode.BACKEND_ERROR,
                f"the CMDB at {self._where} has no {method} {path.rsplit('/', 1)[0] or path}",
                hint="check CMDB_URL, and that this CMDB offers this part of /api/v1",
                executed=Executed.NO,
            )
        unwell = status in {429, 502, 503, 504}
        if status >= 500 and method != "GET" and not unwell:
            raise ToolError(
                ErrorCode.OUTCOME_UNKNOWN,
                f"the CMDB at {self._where} failed with {status} while the change was made{said}",
                hint="look at it with cmdb_query_assets or cmdb_get_change_records before trying again",
            )
        raise ToolError(
            ErrorCode.BACKEND_UNAVAILABLE if unwell or status >= 500 else ErrorCode.BACKEND_ERROR,
            f"the CMDB at {self._where} answered {method} with {status}{said}",
            hint="try again shortly; if it stays, look at the CMDB's own log"
            if unwell
            else "look at the CMDB's own log",
        )


def _asset_params(query: AssetQuery) -> Params:
    params = [(FILTER + name, value) for name, values in query.filters.items() for value in values]
    return [*_given("text", query.text), *_given("as_of", query.as_of.isoformat() if query.as_of else None), *params]


def _given(name: str, value: str | None) -> Params:
    return [(name, value)] if value else []


def _fault(body: bytes) -> Fault | None:
    try:
        return FaultBody.model_validate_json(body).error
    except ValidationError:
        return None
