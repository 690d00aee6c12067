"""Progress and log messages on their way from a worker to the client."""

import pytest

ERAS = pytest.mark.parametrize("mode", ["auto", "legacy"])


@ERAS
async def test_progress_arrives_in_order(served, connect, mode):
    seen = []

    async def told(progress, total, message):
        seen.append((progress, total, message))

    async with connect(served.mcp_url, mode=mode) as client:
        result = await client.call_tool("test_tool_with_progress", progress_callback=told)
        assert not result.is_error
    assert [progress for progress, _, _ in seen] == [0, 50, 100]
    assert seen[1] == (50, 100, "Completed step 50 of 100")


async def test_a_session_gets_logs_from_its_level_on(served, connect):
    seen = []

    async def logged(params):
        seen.append((params.level, params.data))

    async with connect(served.mcp_url, mode="legacy", logging_callback=logged) as client:
        await client.call_tool("test_tool_with_logging")
        assert [text for _, text in seen] == [
            "Tool execution started",
            "Tool processing data",
            "Tool execution completed",
        ]
        seen.clear()
        await client.set_logging_level("warning")
        await client.call_tool("test_tool_with_logging")
        assert seen == []
        await client.set_logging_level("debug")
        await client.call_tool("test_tool_with_logging")
        assert len(seen) == 3


@pytest.mark.parametrize(("level", "expected"), [(None, 0), ("info", 3), ("error", 0)])
async def test_a_modern_request_gets_logs_only_when_it_asks(served, connect, level, expected):
    seen = []

    async def logged(params):
        seen.append(params.data)

    async with connect(served.mcp_url, logging_callback=logged, log_level=level) as client:
        await client.call_tool("test_tool_with_logging")
    assert len(seen) == expected
