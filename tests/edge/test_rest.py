"""The REST face: what it answers, what it refuses, and that it keeps to its own description."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from pydantic import BaseModel
from schemathesis.specs.openapi.checks import positive_data_acceptance

from opsbus import Context, Elicit, ErrorCode, ToolError, Worker
from opsbus.testing.plugin import RunWorker


class Yes(BaseModel):
    yes: bool


def demo() -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def echo(ctx: Context, text: str, number: int = 0) -> dict[str, object]:
        """Says it again."""
        return {"text": text, "number": number}

    @worker.tool(permission="demo:write")
    async def fail(ctx: Context, code: str) -> dict[str, object]:
        """Fails as asked."""
        raise ToolError(ErrorCode(code), "as asked")

    @worker.tool(permission="demo:write")
    async def ask(ctx: Context) -> dict[str, object]:
        """Asks."""
        await ctx.ask("sure", Elicit("Sure?", Yes))
        return {}

    @worker.resource("demo://things", name="things", permission="demo:read")
    async def things(ctx: Context) -> dict[str, int]:
        return {"n": 1}

    @worker.resource("demo://things/{name}", name="thing", permission="demo:read")
    async def thing(ctx: Context, name: str) -> str:
        return f"thing {name}"

    return worker


@pytest.fixture
async def served(running, run_worker: RunWorker) -> AsyncIterator[Any]:
    async with run_worker(demo()):
        await running.knows("demo_echo", "demo_fail")
        yield running


async def test_tools_are_listed_and_described(served) -> None:
    listed = (await served.rest("GET", "/api/v1/tools")).json()
    assert [tool["name"] for tool in listed["tools"]] == ["demo_ask", "demo_echo", "demo_fail"]
    assert listed["next_cursor"] is None
    one = await served.rest("GET", "/api/v1/tools/demo:echo")
    assert one.json()["inputSchema"]["required"] == ["text"]
    assert (await served.rest("GET", "/api/v1/tools/demo_fail", role="viewer")).status_code == 404


@pytest.mark.parametrize("name", ["demo_echo", "demo:echo"])
async def test_a_tool_is_executed(served, name: str) -> None:
    body = {"arguments": {"text": "hi"}}
    answer = await served.rest("POST", f"/api/v1/tools/{name}/execute", json=body)
    assert answer.status_code == 200
    assert answer.json()["structuredContent"] == {"text": "hi", "number": 0}
    assert answer.headers["opsbus-executed"] == "yes"
    assert len(answer.headers["opsbus-call"]) == 32


@pytest.mark.parametrize("key", ["name", "tool"])
async def test_the_alias_names_the_tool_in_its_body(served, key: str) -> None:
    body = {key: "demo:echo", "arguments": {"text": "hi"}}
    answer = await served.rest("POST", "/api/v1/mcp/tools/execute", json=body)
    assert answer.json()["structuredContent"]["text"] == "hi"


@pytest.mark.parametrize(
    ("code", "status"),
    [("not_found", 404), ("conflict", 409), ("precondition_failed", 412), ("backend_unavailable", 502)],
)
async def test_errors_have_the_status_of_their_code(served, code: str, status: int) -> None:
    answer = await served.rest("POST", "/api/v1/tools/demo_fail/execute", json={"arguments": {"code": code}})
    assert answer.status_code == status
    assert answer.json()["error"]["code"] == code
    assert answer.json()["error"]["message"] == "as asked"


async def test_arguments_a_tool_refuses_are_422(served) -> None:
    answer = await served.rest("POST", "/api/v1/tools/demo_echo/execute", json={"arguments": {"txt": 1}})
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "invalid_arguments"


async def test_a_question_cannot_be_asked_over_rest(served) -> None:
    answer = await served.rest("POST", "/api/v1/tools/demo_ask/execute", json={})
    assert answer.json()["error"]["code"] == "missing_capability"


async def test_no_worker_is_503_with_retry_after(running, run_worker: RunWorker) -> None:
    async with run_worker(demo()):
        await running.knows("demo_echo")
        entry = running.edge.catalog.tool("demo_echo")
    async with asyncio.timeout(60):
        while running.edge.catalog.tool("demo_echo") is not None:  # else its leaving takes away what is put there now
            await asyncio.sleep(0.01)
    running.edge.catalog._merged.tools["demo_echo"] = entry  # as if its leaving had not been heard of yet
    answer = await running.rest("POST", "/api/v1/tools/demo_echo/execute", json={"arguments": {"text": "x"}})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_worker"
    assert int(answer.headers["retry-after"]) >= 1


async def test_resources_are_listed_and_read(served) -> None:
    assert (await served.rest("GET", "/api/v1/resources")).json()["resources"][0]["uri"] == "demo://things"
    templates = (await served.rest("GET", "/api/v1/resources/templates")).json()["resource_templates"]
    assert templates[0]["uriTemplate"] == "demo://things/{name}"
    read = await served.rest("GET", "/api/v1/resources/read", params={"uri": "demo://things/a/b"})
    assert read.status_code == 404
    read = await served.rest("GET", "/api/v1/resources/read", params={"uri": "demo://things/web"})
    assert read.json()["contents"][0]["text"] == "thing web"
    for uri in ("", "demo://nothing/at/all", "x" * 3_000):
        answer = await served.rest("GET", "/api/v1/resources/read", params={"uri": uri})
        assert answer.status_code in (400, 404)
        assert answer.json()["error"]["message"]


BAD_BODIES: dict[str, tuple[bytes, str, int]] = {
    "no JSON": (b"{", "application/json", 400),
    "a list": (b"[]", "application/json", 422),
    "a number": (b"5", "application/json", 422),
    "unknown field": (b'{"arguments":{},"verbose":true}', "application/json", 422),
    "arguments a list": (b'{"arguments":[]}', "application/json", 422),
    "timeout below zero": (b'{"arguments":{},"timeout_s":-1}', "application/json", 422),
    "timeout not a number": (b'{"arguments":{},"timeout_s":"NaN"}', "application/json", 422),
    "a form": (b"a=1", "application/x-www-form-urlencoded", 415),
    "deep": (b'{"arguments":' + b'{"a":' * 100 + b"1" + b"}" * 101, "application/json", 400),
    "not UTF-8": (b'{"arguments":{"text":"\xff"}}', "application/json", 400),
}


@pytest.mark.parametrize("kind", BAD_BODIES)
async def test_bad_bodies_are_refused_with_words(served, kind: str) -> None:
    body, content_type, status = BAD_BODIES[kind]
    answer = await served.rest(
        "POST", "/api/v1/tools/demo_echo/execute", content=body, headers={"content-type": content_type}
    )
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_large_bodies_are_refused_declared_or_not(run_edge) -> None:
    async with run_edge(body_bytes_max=2_000) as running:
        path, headers = "/api/v1/tools/demo_echo/execute", {"content-type": "application/json"}
        declared = await running.rest("POST", path, content=b"x" * 3_000, headers=headers)
        assert declared.status_code == 413

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"x" * 500

        streamed = await running.rest("POST", path, content=pieces(), headers=headers)
        assert streamed.status_code == 413
        mcp = await running.mcp("tools/call", {"name": "demo_echo", "arguments": {"text": "x" * 3_000}})
        assert mcp.status == 413


async def test_a_body_that_does_not_come_is_given_up(run_edge) -> None:
    async with run_edge(body_timeout_s=0.2) as running:
        host, port = running.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        token = running.keys.token()
        writer.write(
            f"POST /api/v1/tools/x/execute HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
        head = await asyncio.wait_for(reader.readline(), 60)
        writer.close()
    assert b" 408 " in head


async def test_foreign_hosts_and_origins_are_turned_away(served) -> None:
    for path in ("/api/v1/tools", "/docs", "/mcp"):
        assert (await served.rest("GET", path, headers={"host": "evil.example"})).status_code == 421
        assert (await served.rest("GET", path, headers={"origin": "http://evil.example"})).status_code == 403
    assert (await served.http.get("/ready", headers={"host": "10.0.0.1:8080"})).status_code == 200
    mcp = await served.mcp("tools/list", headers={"origin": "http://evil.example"})
    assert mcp.status == 403


async def test_other_methods_are_told_which_are_allowed(served) -> None:
    for method, path in (("DELETE", "/api/v1/tools"), ("GET", "/api/v1/tools/x/execute"), ("POST", "/health")):
        answer = await served.rest(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"]
    assert (await served.rest("GET", "/api/v2/tools")).status_code == 404
    head = await served.rest("HEAD", "/api/v1/tools")
    assert head.status_code == 200
    assert head.content == b""


async def test_what_was_refused_is_shown_to_those_who_may_see_it(served, bus) -> None:
    from nats.js.kv import KeyValue

    nc = await bus.connect("billing")
    bucket: KeyValue = await nc.jetstream().key_value("CATALOG")
    await bucket.put("billing.billing-1", b"garbage")
    async with asyncio.timeout(60):
        while not served.edge.catalog.refusals:
            await asyncio.sleep(0.01)
    answer = await served.rest("GET", "/api/v1/catalog/refusals")
    (refusal,) = answer.json()["refusals"]
    assert (refusal["service"], refusal["instance"], refusal["item"]) == ("billing", "billing-1", "")
    assert "not JSON" in refusal["reason"]
    assert (await served.rest("GET", "/api/v1/catalog/refusals", role="nobody")).status_code == 403
    services = (await served.rest("GET", "/api/v1/catalog/services")).json()["services"]
    assert list(services) == ["demo"]
    js = await bus.jetstream()
    async with asyncio.timeout(60):
        while (await js.stream_info("EVENTS")).state.messages < 1:
            await asyncio.sleep(0.01)
    msg = await js.get_last_msg("EVENTS", "event.edge.catalog_refused")
    assert msg.data is not None
    assert json.loads(msg.data)["data"]["service"] == "billing"
    assert (await served.call("demo_echo", {"text": "x"})).result["isError"] is False


async def test_the_description_is_valid_and_shows_a_caller_its_tools(served) -> None:
    anyone = (await served.http.get("/openapi.json")).json()
    assert not any("demo" in path for path in anyone["paths"])
    document = (await served.rest("GET", "/openapi.json")).json()
    assert "/api/v1/tools/demo_echo/execute" in document["paths"]
    viewer = (await served.rest("GET", "/openapi.json", role="viewer")).json()
    assert "/api/v1/tools/demo_fail/execute" not in viewer["paths"]
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = [word for word in json.dumps(document).split('"') if word.startswith("#/")]
    for reference in set(references):
        node = document
        for part in reference[2:].split("/"):
            node = node[part]


async def test_the_docs_load_nothing_from_elsewhere(served) -> None:
    page = await served.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http://" not in page.text
    assert "https://" not in page.text


async def test_the_face_keeps_to_its_description(served) -> None:
    """schemathesis: valid and invalid requests of every operation; each answer is one that is described.

    As a viewer, who cannot reach the tool that fails on purpose. Not that every request by the schema is accepted:
    names, cursors and URIs by the schema need not exist.
    """
    document = (await served.rest("GET", "/openapi.json", role="viewer")).json()
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=served.url)
    headers = {"Authorization": f"Bearer {served.keys.token('viewer')}"}
    problems: list[str] = []

    def check(operation: Any) -> None:
        @settings(
            max_examples=15, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def each(case: Any) -> None:
            case.call_and_validate(headers=headers, timeout=60, excluded_checks=[positive_data_acceptance])

        try:
            each()
        except Exception as error:  # noqa: BLE001 - collected: every operation is tried
            problems.append(f"{operation.label}: {error}")

    def run() -> None:
        for result in schema.get_all_operations():
            check(result.ok())

    await asyncio.to_thread(run)
    assert not problems, "\n\n".join(problems)
