"""The MCP client behind ``opsbus call``: the SDK's, with its failures put into words."""

import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import REQUEST_TIMEOUT, Implementation, Tool

from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.commands.call_arguments import BadArgumentError, parse_arguments
from opsbus_edge.commands.call_output import show_result, show_tools
from opsbus_edge.commands.progress import Progress
from opsbus_edge.commands.questions import answerer

TOOL_FAILED = 1
USAGE = 2
UNREACHABLE = 3
NOT_ALLOWED = 4

PAGES_MAX = 100

_NOT_ALLOWED = frozenset({ErrorCode.FORBIDDEN.value, ErrorCode.UNAUTHENTICATED.value, ErrorCode.QUARANTINED.value})


class Failure(Exception):  # noqa: N818 - what a user did not get, in one line
    """Why there is no result, what to do, and the exit code."""

    def __init__(self, message: str, hint: str = "", code: int = TOOL_FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    tool: str
    arguments: tuple[str, ...]
    url: str
    """Of the edge, without ``/mcp``."""
    token: str
    as_json: bool
    yes: bool
    legacy: bool
    timeout_s: float
    ca: str = ""
    """File with certificates to trust; empty: the system's."""


async def run(wanted: Wanted) -> int:
    """Lists tools or calls one; gives the exit code.

    Raises:
        Failure: there is no result.
    """
    refusals: list[Failure] = []
    try:
        with anyio.fail_after(wanted.timeout_s):
            async with _client(wanted, refusals) as client:
                tools = await _tools(client)
                if not wanted.tool:
                    show_tools(tools, as_json=wanted.as_json)
                    return 0
                return await _call(client, wanted, tools)
    except ssl.SSLError:
        raise Failure(f"{wanted.ca} holds no certificates", "name a PEM file with --ca", USAGE) from None
    except (TimeoutError, MCPError, httpx2.HTTPError, ExceptionGroup) as error:
        if refusals:
            raise refusals[0] from None
        raise _failure(_first(error), wanted) from None


async def _call(client: Client, wanted: Wanted, tools: dict[str, Tool]) -> int:
    tool = tools.get(wanted.tool)
    try:
        arguments = parse_arguments(wanted.arguments, tool.input_schema if tool is not None else {})
    except BadArgumentError as error:
        raise Failure(str(error), error.hint, USAGE) from None
    with Progress() as progress:
        result = await client.call_tool(wanted.tool, arguments, progress_callback=progress.told)
    show_result(result, as_json=wanted.as_json)
    return TOOL_FAILED if result.is_error else 0


async def _tools(client: Client) -> dict[str, Tool]:
    found: dict[str, Tool] = {}
    cursor = None
    for _ in range(PAGES_MAX):
        page = await client.list_tools(cursor=cursor)
        found.update((tool.name, tool) for tool in page.tools)
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


@asynccontextmanager
async def _client(wanted: Wanted, refusals: list[Failure]) -> AsyncIterator[Client]:
    """The client; answers 401 and 403 are put into ``refusals``, for the SDK does not tell them."""

    async def look(response: httpx2.Response) -> None:
        if response.status_code in (401, 403):
            refusals.append(_refused(response.status_code, await response.aread(), wanted.url))

    headers = {"Authorization": f"Bearer {wanted.token}"} if wanted.token else {}
    timeout = httpx2.Timeout(30.0, read=wanted.timeout_s)
    asks = wanted.yes or sys.stdin.isatty()
    async with httpx2.AsyncClient(
        headers=headers, timeout=timeout, event_hooks={"response": [look]}, verify=trusting(wanted.ca)
    ) as http:
        client = Client(
            streamable_http_client(f"{wanted.url}/mcp", http_client=http),
            mode="legacy" if wanted.legacy else "auto",
            client_info=Implementation(name="opsbus-call", version="1"),
            # A client that nobody sits at does not claim that it can ask: the tool then hands out a token instead.
            elicitation_callback=answerer(yes=wanted.yes) if asks else None,
        )
        async with client:
            yield client


def _refused(status: int, body: bytes, url: str) -> Failure:
    """Who is not known needs another token; who is known is told what the edge said."""
    sign_in = "give a good one with --token, name its role with --role, or sign in: 'opsbus login'"
    try:
        error = ErrorBody.model_validate(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        error = None
    if status == 401 or error is None:
        return Failure(f"{url} does not accept the token ({status})", sign_in, NOT_ALLOWED)
    return Failure(error.message, error.hint, NOT_ALLOWED)


def _first(error: Exception) -> Exception:
    """The error itself, or the first of a group, however deep."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _failure(error: Exception, wanted: Wanted) -> Exception:
    """The failure in words; what is no failure of the call goes on as it is."""
    if isinstance(error, TimeoutError):
        return Failure(
            f"no result within {wanted.timeout_s:g} s", "the call may still run; read the state before trying again"
        )
    if isinstance(error, MCPError):
        return _of_rpc(error)
    return _of_http(error, wanted) if isinstance(error, httpx2.HTTPError) else error


def _of_rpc(error: MCPError) -> Failure:
    data = error.data if isinstance(error.data, dict) else {}
    hint = str(data.get("hint") or "")
    similar = data.get("did_you_mean")
    if similar:
        hint = f"did you mean {', '.join(similar)}?"
    if error.code == REQUEST_TIMEOUT:
        return Failure("the edge gave no answer in time", "the call may still run; read the state first")
    if data.get("code") in _NOT_ALLOWED:
        return Failure(error.message, f"{hint} Or use another token: --token, --role operator".strip(), NOT_ALLOWED)
    unknown = data.get("code") == ErrorCode.UNKNOWN_TOOL.value
    return Failure(error.message, hint or ("'opsbus call' lists the tools" if unknown else ""), USAGE if unknown else 1)


def _of_http(error: httpx2.HTTPError, wanted: Wanted) -> Failure:
    if isinstance(error, httpx2.HTTPStatusError):
        status = error.response.status_code
        return Failure(f"{wanted.url} answered {status}", "look at the edge's log, or run 'opsbus doctor'", UNREACHABLE)
    return Failure(*why_unreachable(error, wanted.url), UNREACHABLE)


def trusting(ca: str) -> ssl.SSLContext:
    """What to trust: the certificates in the file ``ca``, or the system's.

    Raises:
        OSError: the file cannot be used.
    """
    return ssl.create_default_context(cafile=ca or None)


def why_unreachable(error: httpx2.HTTPError, url: str) -> tuple[str, str]:
    """Message and hint for a connection that did not come about."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return f"{url} shows a certificate that is not trusted", "name the file with its authority: --ca, or OPSBUS_CA"
    return f"no edge answers at {url}", "is it running? 'opsbus doctor' looks"
