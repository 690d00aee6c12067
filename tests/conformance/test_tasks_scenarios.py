"""The official suite's scenarios for the tasks extension, with their tools in workers on the bus.

The suite scores none of them; they are ours to pass all the same. Warnings count as failures.
"""

import asyncio
import json
from contextlib import AsyncExitStack

import pytest
from aiohttp import ClientSession, web

SCENARIOS = (
    "tasks-lifecycle",
    "tasks-capability-negotiation",
    "tasks-wire-fields",
    "tasks-request-state-removal",
    "tasks-mrtr-input",
    "tasks-request-headers",
    "tasks-dispatch-and-envelope",
    "tasks-required-task-error",
    "tasks-mrtr-composition",
)
SKIPPED_BY_THE_SUITE = "tasks-status-notifications"
FINE = {"SUCCESS", "INFO"}
NAMES = {"greet": "test_greet"}
"""The one name that no tool of the platform can have."""
TASK_AFTER_S = 0.8
"""Less than the second that the suite's slow tools take, and long for the one that has to answer without a task."""

pytestmark = [pytest.mark.conformance, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
async def tasks_url(run_worker, task_workers, start_edge):
    """An edge behind a proxy that renames a tool and touches nothing else."""
    async with AsyncExitStack() as stack:
        for worker in task_workers:
            await stack.enter_async_context(run_worker(worker))
        url = await stack.enter_async_context(start_edge(task_after_s=TASK_AFTER_S))
        client = await stack.enter_async_context(ClientSession(auto_decompress=False))
        app = web.Application()

        async def handle(request):
            return await passed_on(client, f"{url}/mcp", request)

        app.router.add_route("*", "/mcp", handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"


async def passed_on(client, url, request):
    headers = {k: v for k, v in request.headers.items() if k.lower() not in ("host", "content-length")}
    data = await request.read()
    body = json.loads(data) if data else {}
    if body.get("method") == "tools/call" and (name := NAMES.get(body["params"]["name"])):
        data = json.dumps(body | {"params": body["params"] | {"name": name}}).encode()
        headers = {k: name if k.lower() == "mcp-name" else v for k, v in headers.items()}
    async with client.request(request.method, url, headers=headers, data=data) as answer:
        kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
        return web.Response(status=answer.status, headers=kept, body=await answer.read())


async def run(node, suite, url, scenario, results, environment):
    process = await asyncio.create_subprocess_exec(
        node, suite, "server", "--url", url, "--scenario", scenario, "--spec-version", "2026-07-28", "--force",
        "-o", results, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    files = list(results.glob(f"server-{scenario}-*/checks.json"))
    assert files, output.decode(errors="replace")[-3000:]
    return json.loads(files[0].read_text())


async def test_every_scenario_for_tasks_passes(node, suite, tasks_url, node_environment, tmp_path, capsys):
    found = {}
    for scenario in (*SCENARIOS, SKIPPED_BY_THE_SUITE):
        found[scenario] = await run(node, suite, tasks_url, scenario, tmp_path / "results", node_environment)
    problems = {
        name: [f"{one['status']} {one['id']}: {one.get('errorMessage', '')}" for one in found[name] if bad(one)]
        for name in SCENARIOS
    }
    checks = sum(one["status"] == "SUCCESS" for name in SCENARIOS for one in found[name])
    with capsys.disabled():
        passed = sum(not found for found in problems.values())
        print(f"\nMCP conformance, tasks: {passed} of {len(SCENARIOS)} scenarios, {checks} checks")
    assert not any(problems.values()), json.dumps(problems, indent=2)
    assert all(any(one["status"] == "SUCCESS" for one in found[name]) for name in SCENARIOS)
    assert {one["status"] for one in found[SKIPPED_BY_THE_SUITE]} == {"SKIPPED"}


def bad(check):
    return check["status"] not in FINE
