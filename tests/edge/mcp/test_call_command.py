"""``opsbus call`` at the terminal: arguments, questions, output, and a code for each way it can end."""

import asyncio
import functools
import json
import os
import pty
import signal
import sys

import pytest
from typer.testing import CliRunner

from opsbus.platform_audit import PlatformAudit
from opsbus.quarantine_store import QuarantineStore
from opsbus_contracts.access import QuarantineKind
from opsbus_edge.commands.call import app
from opsbus_edge.commands.call_arguments import BadArgumentError, parse_arguments


@pytest.fixture
def opsbus_call(served, make_token, tmp_path):
    """Runs the command; gives exit code, stdout and stderr."""

    async def run(*arguments, token=None, url=None, answers="", data=None):
        environment = {
            "OPSBUS_URL": served.url if url is None else url,
            "OPSBUS_TOKEN": make_token() if token is None else token,
            "OPSBUS_DATA": str(data or tmp_path / "nothing"),
        }
        environment = {key: value or None for key, value in environment.items()}
        runner = CliRunner()
        invoke = functools.partial(runner.invoke, app, list(arguments), env=environment, input=answers)
        result = await asyncio.to_thread(invoke)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


async def test_it_prints_what_the_tool_says(opsbus_call):
    assert await opsbus_call("test_simple_text") == (0, "This is a simple text response for testing.\n", "")


async def test_arguments_have_the_types_that_the_tool_wants(opsbus_call):
    for extra in ((), ("--legacy",)):
        code, out, _ = await opsbus_call("test_x_mcp_header", "region=5", "priority=5", *extra)
        assert (code, out) == (0, "region=5 priority=5\n")
    code, out, _ = await opsbus_call("test_x_mcp_header", '{"region": "eu", "priority": 7}')
    assert out == "region=eu priority=7\n"


async def test_json_and_the_list(opsbus_call):
    code, out, _ = await opsbus_call("test_multiple_content_types", "--json")
    assert code == 0
    assert [block["type"] for block in json.loads(out)["content"]] == ["text", "image", "resource"]
    code, out, _ = await opsbus_call()
    assert code == 0
    assert any(line.startswith("test_simple_text") and line.endswith("Plain text.") for line in out.splitlines())


@pytest.mark.parametrize("extra", [(), ("--legacy",)], ids=["modern", "legacy"])
async def test_yes_answers_what_yes_can(opsbus_call, extra):
    code, out, err = await opsbus_call("test_input_required_result_request_state", "--yes", *extra)
    assert (code, out) == (0, "state-ok\n")
    assert "Please confirm" in err
    code, _, err = await opsbus_call("test_input_required_result_elicitation", "--yes", *extra)
    assert code == 1
    assert "cannot answer 'name'" in err


async def test_without_a_terminal_nothing_is_asked(opsbus_call):
    code, _, err = await opsbus_call("test_input_required_result_request_state")
    assert code == 1
    assert "elicitation" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("test_error_handling",), 1, "intentionally returns an error"),
        (("test_simple_txt",), 2, "did you mean test_simple_text"),
        (("test_x_mcp_header", "nonsense"), 2, "key=value"),
        (("test_x_mcp_header", "region=a", "priority=high"), 2, "integer expected"),
        (("test_x_mcp_header", "region=a", "regoin=b"), 1, "region"),
    ],
)
async def test_mistakes_are_told(opsbus_call, arguments, code, words):
    found, out, err = await opsbus_call(*arguments)
    assert (found, out) == (code, "")
    assert words in err


@pytest.mark.parametrize("extra", [(), ("--legacy",)], ids=["modern", "legacy"])
async def test_who_may_not_is_told(opsbus_call, make_token, extra):
    code, _, err = await opsbus_call("test_simple_text", *extra, token="x.y.z")
    assert code == 4
    assert "token" in err
    code, _, err = await opsbus_call("test_trigger_tool_change", *extra, token=make_token("ada", "nobody"))
    assert code == 4
    assert "test:read" in err
    assert "--role" in err


async def test_no_edge_is_told(opsbus_call):
    code, _, err = await opsbus_call("test_simple_text", url="http://127.0.0.1:9")
    assert code == 3
    assert "no edge answers at http://127.0.0.1:9" in err
    code, _, err = await opsbus_call("test_simple_text", url="", token="")
    assert code == 2
    assert "opsbus up" in err


async def test_who_is_shut_out_is_told_why(opsbus_call, served, make_token, bus):
    js = await bus.jetstream("keeper")
    await QuarantineStore(js, PlatformAudit(js, "keeper"), "test").add(QuarantineKind.CALLER, "eve", "leaked token", 60)
    async with asyncio.timeout(30):
        while True:
            code, _, err = await opsbus_call("test_simple_text", token=make_token("eve"))
            if code:
                break
    assert code == 4
    assert "leaked token" in err
    assert "does not accept the token" not in err


async def test_the_running_platform_s_edge_and_tokens_are_found(opsbus_call, served, make_token, tmp_path):
    tokens = {"viewer": make_token("v", "viewer"), "admin": make_token("a")}
    (tmp_path / "run.json").write_text(json.dumps({"edge_url": served.url, "tokens": tokens}))
    code, _, _ = await opsbus_call("test_simple_text", url="", token="", data=tmp_path)
    assert code == 0
    code, _, _ = await opsbus_call("test_simple_text", "--role", "admin", url="", token="", data=tmp_path)
    assert code == 0


@pytest.mark.parametrize(
    ("typed", "code", "words"),
    [("Ada\n", 0, b"Hello, Ada!"), ("\x04", 1, b"declined"), ("", 1, b"declined")],
    ids=["answer", "ctrl-d", "ctrl-c"],
)
async def test_a_person_is_asked(served, make_token, typed, code, words):
    person, terminal = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "OPSBUS_URL": served.url, "OPSBUS_TOKEN": make_token()}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "opsbus", "call", "test_input_required_result_elicitation", env=environment,
            stdin=terminal, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        async with asyncio.timeout(60):
            while b"What is your name?" not in (line := await process.stderr.readline()):
                assert line, "it ended before it asked"
            if typed:
                os.write(person, typed.encode())
            else:
                process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
        assert words in out + err
        assert process.returncode == code
    finally:
        os.close(person)
        os.close(terminal)


SCHEMA = {
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "on": {"type": "boolean"},
    }
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["name=5"], {"name": "5"}),
        (["count=5"], {"count": 5}),
        (["tags=a,b"], {"tags": ["a", "b"]}),
        (['tags=["a"]'], {"tags": ["a"]}),
        (["either=5"], {"either": "5"}),
        (["on=true", "name="], {"on": True, "name": ""}),
        (["name=a=b"], {"name": "a=b"}),
        (["unknown=5", "other=x"], {"unknown": 5, "other": "x"}),
        (['{"count": 1}', "count=2"], {"count": 2}),
        ([], {}),
    ],
)
def test_arguments(given, expected):
    assert parse_arguments(given, SCHEMA) == expected


@pytest.mark.parametrize("given", ["=5", "x", "{bad", "count=many", "on=perhaps"])
def test_bad_arguments(given):
    with pytest.raises(BadArgumentError) as caught:
        parse_arguments([given], SCHEMA)
    assert caught.value.hint
