"""The embedded store over the CMDB's HTTP API: a small real CMDB, ``python -m opsbus_cmdb.http_server``. No tool
lives here."""

import hmac
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, ValidationError

from opsbus import ErrorCode, ToolError
from opsbus_cmdb import seed
from opsbus_cmdb.http_api import ASSETS, CANCELLATION, CHANGES, FILTER, TOPOLOGY, Fault, FaultBody, Groups, StatusPatch
from opsbus_cmdb.inventory import Inventory
from opsbus_cmdb.query import (
    LIMIT_MAX,
    Cancellation,
    ChangeDraft,
    ChangeQuery,
    StatusChange,
    TopologyQuery,
    asset_query,
    check_group,
)
from opsbus_cmdb.store import EmbeddedInventory
from opsbus_contracts.errors import CODES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
M = TypeVar("M", bound=BaseModel)

_INVENTORY = web.AppKey("inventory", Inventory)
_BODY_BYTES_MAX = 64_000
_log = logging.getLogger("opsbus.cmdb.http")


def application(inventory: Inventory, api_key: str) -> web.Application:
    """The API over ``inventory``. Everything but /health wants ``Authorization: Bearer <api_key>``.

    Raises:
        ValueError: an empty key, which would let everybody in.
    """
    if not api_key:
        raise ValueError("the CMDB's API needs a key: set CMDB_API_KEY")
    app = web.Application(middlewares=[_errors, _bearer(api_key)], client_max_size=_BODY_BYTES_MAX)
    app[_INVENTORY] = inventory
    app.add_routes(
        [
            web.get("/health", _health),
            web.get(ASSETS, _assets),
            web.get(ASSETS + "/{key:.+}", _asset),
            web.patch(ASSETS + "/{key:.+}", _patch),
            web.get(TOPOLOGY + "/{key:.+}", _topology),
            web.get(CHANGES, _changes),
            web.post(CHANGES, _create_change),
            web.post(CHANGES + "/{number:[^/]+}/" + CANCELLATION, _cancel_change),
            web.get(CHANGES + "/{number:.+}", _change),
        ]
    )
    return app


def _bearer(api_key: str) -> Middleware:
    wanted = f"Bearer {api_key}".encode()

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode()
        if request.path != "/health" and not hmac.compare_digest(given, wanted):
            return _answer(
                Fault(code="unauthenticated", message="no valid key", hint="send Authorization: Bearer <key>"), 401
            )
        return await handler(request)

    return check


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ToolError as error:
        fault = Fault(
            code=error.code.value,
            message=error.message,
            hint=error.hint,
            did_you_mean=error.did_you_mean,
            details=error.details,
        )
        return _answer(fault, CODES[error.code].http)
    except web.HTTPException as error:
        return _answer(Fault(code="invalid_request", message=error.reason), error.status)
    except Exception:  # noqa: BLE001 - no traceback reaches a caller
        _log.exception("request failed")
        return _answer(Fault(code="internal", message="the CMDB failed", hint="its log says why"), 500)


def _answer(fault: Fault, status: int) -> web.Response:
    return web.Response(text=FaultBody(error=fault).model_dump_json(), status=status, content_type="application/json")


def _json(body: BaseModel) -> web.Response:
    return web.Response(text=body.model_dump_json(), content_type="application/json")


def _checked(model: type[M], values: object) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, f"{where}: {first['msg']}") from error


def _known(request: web.Request, *names: str) -> None:
    unknown = [name for name in request.query if name not in names and not name.startswith(FILTER)]
    if unknown:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, f"unknown parameter {unknown[0]!r}", hint=f"valid: {', '.join(names)}"
        )


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", "50")
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= LIMIT_MAX:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, f"limit must be 1 to {LIMIT_MAX}")
    return int(given)


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


async def _assets(request: web.Request) -> web.Response:
    _known(request, "text", "group_by", "as_of", "limit", "cursor", "count_by", f"{FILTER}<name>")
    names = dict.fromkeys(name for name in request.query if name.startswith(FILTER))
    filters = {name.removeprefix(FILTER): request.query.getall(name) for name in names}
    query = asset_query(request.query.get("text"), filters, _past(request))
    inventory = request.app[_INVENTORY]
    group_by = request.query.get("group_by")
    if group_by is not None:
        return _json(Groups(groups=await inventory.count_assets(query, check_group(group_by))))
    count_by = [check_group(name) for name in dict.fromkeys(request.query.getall("count_by", []))]
    return _json(await inventory.find_assets(query, _limit(request), request.query.get("cursor"), count_by))


async def _asset(request: web.Request) -> web.Response:
    asset = await request.app[_INVENTORY].get_asset(request.match_info["key"])
    response = _json(asset)
    response.headers["ETag"] = f'"{asset.version}"'
    return response


async def _patch(request: web.Request) -> web.Response:
    version = request.headers.get("If-Match", "").strip('"')
    if not version.isascii() or not version.isdigit():
        raise ToolError(
            ErrorCode.PRECONDITION_FAILED, "no If-Match", hint='send If-Match: "<version>" of the record you looked at'
        )
    patch = await _read(request, StatusPatch)
    change = _checked(StatusChange, {**patch.model_dump(), "expected_version": int(version)})
    return _json(await request.app[_INVENTORY].set_status(request.match_info["key"], change))


async def _read(request: web.Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await request.read())
    except ValidationError as error:
        raise ToolError(
            ErrorCode.INVALID_ARGUMENTS, f"the body is not a {model.__name__}", hint="see http_api.py"
        ) from error


async def _create_change(request: web.Request) -> web.Response:
    return _json(await request.app[_INVENTORY].create_change(await _read(request, ChangeDraft)))


async def _cancel_change(request: web.Request) -> web.Response:
    cancellation = await _read(request, Cancellation)
    return _json(await request.app[_INVENTORY].cancel_change(request.match_info["number"], cancellation))


async def _topology(request: web.Request) -> web.Response:
    _known(request, "direction", "depth", "nodes_max", "type", "as_of")
    values: dict[str, object] = {name: request.query[name] for name in request.query if name not in {"type", "as_of"}}
    values |= {"types": request.query.getall("type", []), "as_of": _past(request)}
    query = _checked(TopologyQuery, values)
    return _json(await request.app[_INVENTORY].topology(request.match_info["key"], query))


async def _changes(request: web.Request) -> web.Response:
    _known(request, "asset", "since", "until", "state", "type", "limit", "cursor")
    values: dict[str, object] = {
        "assets": request.query.getall("asset", []) or None,
        "states": request.query.getall("state", []),
        "types": request.query.getall("type", []),
    }
    values |= {name: _moment(request, name) for name in ("since", "until") if name in request.query}
    query = _checked(ChangeQuery, values)
    return _json(await request.app[_INVENTORY].find_changes(query, _limit(request), request.query.get("cursor")))


def _past(request: web.Request) -> datetime | None:
    return _moment(request, "as_of") if "as_of" in request.query else None


def _moment(request: web.Request, name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(request.query[name])
    except ValueError as error:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, f"{name} must be an RFC 3339 time") from error
    if moment.tzinfo is None:
        raise ToolError(ErrorCode.INVALID_ARGUMENTS, f"{name} must say its zone: 2026-01-31T10:00:00Z")
    return moment


async def _change(request: web.Request) -> web.Response:
    return _json(await request.app[_INVENTORY].get_change(request.match_info["number"]))


async def serving(app: web.Application, store: EmbeddedInventory, estate: str) -> AsyncIterator[None]:
    """Open the store for as long as the application runs, filled when it is empty and an estate is named."""
    await store.create()
    if estate:
        await store.load(seed.estate(estate))
    yield
    await store.close()


def main() -> None:
    """Serve: CMDB_API_KEY, OPSBUS_CMDB_DATABASE_URL, OPSBUS_CMDB_SEED, CMDB_HOST (127.0.0.1) and CMDB_PORT (8085)."""
    url = os.environ.get("OPSBUS_CMDB_DATABASE_URL") or "sqlite:///.opsbus/state/cmdb-http.sqlite3"
    estate = os.environ.get("OPSBUS_CMDB_SEED", "")
    try:
        if estate and estate not in seed.ESTATES:
            raise ValueError(f"OPSBUS_CMDB_SEED: there is no estate {estate!r}; there are: {', '.join(seed.ESTATES)}")
        store = EmbeddedInventory(url)
        app = application(store, os.environ.get("CMDB_API_KEY", ""))
        host, port = os.environ.get("CMDB_HOST", "127.0.0.1"), int(os.environ.get("CMDB_PORT", "8085"))
        app.cleanup_ctx.append(lambda running: serving(running, store, estate))
        web.run_app(app, host=host, port=port)
    except (ValueError, OSError) as error:
        sys.exit(f"cmdb: {error}")
    except ToolError as error:
        sys.exit(f"cmdb: {error.message}; {error.hint}")


if __name__ == "__main__":
    main()
