"""Whatever arrives on a worker's subject, it answers: one final reply, a known code, no traceback, and goes on."""

import asyncio
import json
import secrets
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsbus import Context, Worker
from opsbus.testing.caller import Caller
from opsbus_contracts import ErrorBody, Header, Identity, Status

worker = Worker("demo", version="1.0.0")


@worker.tool(permission="demo:read", read_only=True)
async def echo(ctx: Context[None], text: str, times: int = 1) -> list[str]:
    """The text, as often as wanted."""
    return [text] * min(times, 10)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
BODIES = (
    st.binary(max_size=200)
    | JSON.map(lambda v: json.dumps(v).encode())
    | st.fixed_dictionaries(
        {"arguments": JSON}, optional={"client": JSON, "request_state": JSON, "input_responses": JSON, "progress": JSON}
    ).map(lambda v: json.dumps(v).encode())
)
HEADER_TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
HEADERS = st.dictionaries(st.sampled_from([*(header.value for header in Header), "X-Other"]), HEADER_TEXT, max_size=6)
SUBJECTS = st.sampled_from(["tool.demo.echo", "tool.demo.nosuch", "mcp.demo.resources_read", "mcp.demo.prompts_get",
                            "mcp.demo.completion_complete"])  # fmt: skip


async def answered(caller: Caller, subject: str, body: bytes, headers: dict[str, str]) -> tuple[dict[str, str], bytes]:
    """The final reply to a raw message."""
    inbox = f"_INBOX.edge.{secrets.token_hex(6)}"
    final: asyncio.Future[tuple[dict[str, str], bytes]] = asyncio.get_running_loop().create_future()

    async def receive(msg: Any) -> None:
        if (msg.headers or {}).get(Header.STATUS) in ("ok", "input_required", "error") and not final.done():
            final.set_result((dict(msg.headers), msg.data))

    subscription = await caller.client.subscribe(inbox, cb=receive)
    await caller.client.flush()
    await caller.client.flush()
    await caller.client.publish(subject, body, reply=inbox, headers=headers or None)
    try:
        return await asyncio.wait_for(final, 60)
    except TimeoutError:
        raise AssertionError(f"no answer to {subject} {body!r} {headers}") from None
    finally:
        await subscription.unsubscribe()


def check(headers: dict[str, str], body: bytes) -> None:
    assert headers[Header.INSTANCE]
    assert headers[Header.EXECUTED] in ("yes", "no", "unknown")
    assert b"Traceback" not in body
    assert b'File "' not in body
    if headers[Header.STATUS] == Status.ERROR.value:
        error = ErrorBody.model_validate_json(body)
        assert error.code.value == headers[Header.ERROR_CODE]
        assert error.code.value != "internal", error
        assert error.message


@pytest.mark.parametrize("trusted", [False, True])
async def test_anything_is_answered(run_worker: Any, caller: Caller, trusted: bool) -> None:
    """Untrusted: random identity headers. Trusted: a valid identity, so that the body is reached."""
    now = int(time.time())
    token = caller.signer.sign(Identity(sub="fuzz", permissions=["*"], iat=now, exp=now + 3600))
    count = 0

    async with run_worker(worker):
        cases: list[tuple[str, bytes, dict[str, str]]] = []

        @settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(SUBJECTS, BODIES, HEADERS)
        def collect(subject: str, body: bytes, headers: dict[str, str]) -> None:
            cases.append((subject, body, headers))

        collect()
        for subject, body, headers in cases:
            given_headers = {**headers, Header.IDENTITY.value: token} if trusted else headers
            check(*await answered(caller, subject, body, given_headers))
            count += 1
        reply = await caller.call("demo", "echo", {"text": "still here"})
        assert reply.result["structuredContent"]
    print(f"{count} messages, each answered once")
