"""The walk: what a newcomer gets from ``make up``, end to end, with nothing in between replaced.

One test of many steps, because a platform takes seconds to start and the last step ends it.
"""

import asyncio
import base64
import codecs
import contextlib
import json
import os
import re
import select
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from mcp import Client, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import ElicitResult

from opsbus import nats_client
from opsbus.settings import Settings
from opsbus.testing.ports import free_port

OPSBUS = Path(sys.executable).with_name("opsbus")
SERVICES = ("sandbox", "k8s-ops", "monitoring", "cmdb", "audit", "approvals", "edge")
REASON = f"walk {time.time_ns()}"


class Platform:
    """``opsbus up`` in an empty folder, and what it printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = self._environment()
        self.port = free_port()
        self.process = subprocess.Popen(
            [str(OPSBUS), "up", "--port", str(self.port)],
            cwd=folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.output = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()  # what is read may end within a character

    def _environment(self) -> dict[str, str]:
        """A newcomer's: an empty home, nothing set, and a proxy that leads nowhere: nothing may need the network."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "http_proxy": "http://127.0.0.1:9",
            "https_proxy": "http://127.0.0.1:9",
            "no_proxy": "127.0.0.1,localhost",
        }

    def read_until(self, pattern: str, timeout_s: float) -> None:
        assert self.process.stdout is not None
        descriptor, ends = self.process.stdout.fileno(), time.monotonic() + timeout_s
        while not re.search(pattern, self.output):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, ends - time.monotonic()))
            chunk = os.read(descriptor, 65_536) if ready else b""
            assert chunk, f"no {pattern!r} in what was printed:\n{self.output}\n{self.logs()}"
            self.output += self._decoder.decode(chunk)

    def logs(self) -> str:
        found = sorted((self.folder / ".opsbus" / "log").glob("*.log"))
        return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in found)

    def printed(self, pattern: str) -> str:
        """The one printed line with the pattern, as a user would copy it."""
        [line] = [line for line in self.output.splitlines() if re.search(pattern, line)]
        return line.strip()

    def paste(self, line: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            line, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout_s
        )

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.folder / ".opsbus" / "run.json").read_text())

    def left_behind(self) -> list[str]:
        found = []
        for entry in Path("/proc").iterdir() if sys.platform == "linux" else ():
            if entry.name.isdigit() and int(entry.name) not in (os.getpid(), self.process.pid):
                with contextlib.suppress(OSError):
                    text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                    if str(self.folder).encode() in text:
                        found.append((entry / "cmdline").read_text().replace("\0", " "))
        return found


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    running = Platform(tmp_path)
    try:
        running.read_until(r"Ctrl-C stops", 150)
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            try:
                running.process.wait(60)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()
        if running.process.stdout is not None:
            running.process.stdout.close()


async def agree(context: Any, params: Any) -> ElicitResult:
    """A person who reads the plan and says yes."""
    assert "shop-staging/frontend" in params.message
    fields = params.requested_schema["properties"]
    return ElicitResult(action="accept", content=dict.fromkeys(fields, True))


@asynccontextmanager
async def client(platform: Platform, role: str, mode: str = "auto") -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {platform.facts['tokens'][role]}"}
    async with create_mcp_http_client(headers=headers) as http:
        transport = streamable_http_client(platform.facts["mcp_url"], http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=agree) as connected:
            yield connected


async def replicas_in_the_cluster(platform: Platform) -> int:
    """Asks the cluster's own API, past opsbus, as kubectl would."""
    config = yaml.safe_load(await asyncio.to_thread(Path(platform.facts["sandbox"]["kubeconfig"]).read_text))
    cluster = config["clusters"][0]["cluster"]
    token = config["users"][0]["user"]["token"]
    trust = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    async with httpx.AsyncClient(verify=trust, trust_env=False) as http:
        answer = await http.get(
            f"{cluster['server']}/apis/apps/v1/namespaces/shop-staging/deployments/frontend",
            headers={"Authorization": f"Bearer {token}"},
        )
    answer.raise_for_status()
    return answer.json()["spec"]["replicas"]


async def stream_messages(platform: Platform, identity: str, subject: str, stream: str) -> list[dict[str, Any]]:
    """What a stream holds, read by an identity that may."""
    facts = platform.facts
    settings = Settings(nats_url=facts["nats_url"], nats_seed_file=Path(facts["seeds"][identity]))
    nc = await nats_client.connect(settings, identity)
    try:
        subscription = await nc.jetstream().subscribe(subject, stream=stream, ordered_consumer=True)
        found = []
        while True:
            message = await subscription.next_msg(timeout=30)
            found.append(json.loads(message.data))
            if message.metadata.num_pending == 0:
                return found
    finally:
        await nc.close()


async def completed_in_the_audit_store(platform: Platform, reason: str) -> list[dict[str, Any]]:
    """The ends of the calls that were made for a reason, as ``audit_search`` tells them."""
    async with client(platform, "admin") as connected:
        begun = await connected.call_tool("audit_search", {"text": reason, "stage": "requested"})
        assert not begun.is_error, begun.content
        found = []
        for call in {entry["call"] for entry in begun.structured_content["items"]}:
            ended = await connected.call_tool("audit_search", {"call": call, "stage": "completed"})
            found += ended.structured_content["items"]
        return found


async def until(look: Any, timeout_s: float = 60) -> Any:
    async with asyncio.timeout(timeout_s):
        while not (found := await look()):
            await asyncio.sleep(0.2)
        return found


async def the_platform_itself_is_in_the_record(platform: Platform) -> None:
    async def joined() -> set[str]:
        events = await stream_messages(platform, "auditor", "audit.audit.worker_joined", "AUDIT")
        found = [event["data"]["service"] for event in events]
        assert len(found) == len(set(found)), found
        return set(found) if len(found) == 5 else set()

    assert await until(joined, 60) == {"k8s", "cmdb", "monitoring", "audit", "approvals"}
    (provisioned,) = await stream_messages(platform, "auditor", "audit.provisioner.provisioned", "AUDIT")
    assert "stream AUDIT" in provisioned["data"]["details"]["created"]
    assert provisioned["data"]["details"]["identity_key"]


@pytest.mark.timeout(300)
async def test_the_walk(platform: Platform) -> None:
    every_process_becomes_ready_and_says_where(platform)
    the_printed_lines_work_when_pasted(platform)
    a_token_for_each_role_is_printed_and_means_what_it_says(platform)
    await the_platform_itself_is_in_the_record(platform)
    await the_printed_client_configurations_connect(platform)
    await a_deployment_is_scaled_and_all_of_it_is_seen(platform, "auto", 3)
    await a_deployment_is_scaled_and_all_of_it_is_seen(platform, "legacy", 4)
    await a_viewer_cannot(platform)
    await the_first_questions_have_interesting_answers(platform)
    ctrl_c_drains_and_leaves_nothing(platform)


def every_process_becomes_ready_and_says_where(platform: Platform) -> None:
    for name in ("nats-server", "provision", *SERVICES):
        assert re.search(rf"✓ {name} +ready +[0-9.]+ s", platform.output), platform.output
    assert set(platform.facts["pids"]) == {"nats-server", *SERVICES}
    assert f"http://127.0.0.1:{platform.port}/mcp" in platform.output


def the_printed_lines_work_when_pasted(platform: Platform) -> None:
    called = platform.paste(platform.printed(r" call k8s_get_pods"))
    assert called.returncode == 0, called.stderr
    assert "checkout" in called.stdout
    assert "CrashLoopBackOff" in called.stdout

    fetched = platform.paste(platform.printed(r"^\s*curl "))
    assert fetched.returncode == 0, fetched.stderr
    assert "CrashLoopBackOff" in json.dumps(json.loads(fetched.stdout))

    doctor = platform.paste(platform.printed(r"Health").partition("Health")[2])
    assert doctor.returncode == 0, doctor.stdout
    for service in ("k8s", "monitoring", "cmdb", "audit"):
        assert re.search(rf"✓ ok +service {service} +1 instance", doctor.stdout), doctor.stdout


def a_token_for_each_role_is_printed_and_means_what_it_says(platform: Platform) -> None:
    for role in ("viewer", "operator", "admin"):
        token = platform.printed(rf"^\s*{role} +eyJ").split()[1]
        answer = httpx.get(
            f"{platform.facts['edge_url']}/api/v1/tools", headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )
        tools = {tool["name"] for tool in answer.json()["tools"]}
        assert "k8s_get_pods" in tools
        assert ("k8s_scale_deployment" in tools) is (role != "viewer")
    assert httpx.get(f"{platform.facts['edge_url']}/api/v1/tools", trust_env=False).status_code == 401


async def the_printed_client_configurations_connect(platform: Platform) -> None:
    configured = json.loads(platform.printed(r'^\s*\{"mcpServers".*"stdio"'))["mcpServers"]["opsbus"]
    parameters = StdioServerParameters(
        command=configured["command"], args=configured["args"], env={**platform.environment, **configured["env"]}
    )
    async with Client(stdio_client(parameters)) as over_stdio:
        named = {tool.name for tool in (await over_stdio.list_tools()).tools}

    configured = json.loads(platform.printed(r'^\s*\{"mcpServers".*"http"'))["mcpServers"]["opsbus"]
    async with (
        create_mcp_http_client(headers=configured["headers"]) as http,
        Client(streamable_http_client(configured["url"], http_client=http)) as over_http,
    ):
        assert {tool.name for tool in (await over_http.list_tools()).tools} == named
    assert {name.split("_")[0] for name in named} >= {"k8s", "monitoring", "cmdb"}


async def a_deployment_is_scaled_and_all_of_it_is_seen(platform: Platform, mode: str, replicas: int) -> None:
    reason = f"{REASON} {mode}"
    arguments = {"namespace": "shop-staging", "name": "frontend", "replicas": replicas, "reason": reason}
    assert await replicas_in_the_cluster(platform) != replicas

    async with client(platform, "operator", mode) as connected:
        result = await connected.call_tool("k8s_scale_deployment", arguments)
    assert not result.is_error, result.content
    assert result.structured_content["outcome"] == "done"

    assert await replicas_in_the_cluster(platform) == replicas

    events = await stream_messages(platform, "operator", "event.k8s.deployment_scaled", "EVENTS")
    [event] = [event for event in events if event["data"]["reason"] == reason]
    assert (event["subject"], event["data"]["after"]) == ("shop-staging/frontend", replicas)

    async def recorded() -> list[str]:
        record = await stream_messages(platform, "auditor", "audit.>", "AUDIT")
        calls = {entry["data"]["call"] for entry in record if entry["data"].get("reason") == reason}
        stages = [entry["data"]["stage"] for entry in record if entry["data"]["call"] in calls]
        return stages if "completed" in stages else []

    stages = await until(recorded)
    assert stages.index("requested") < stages.index("completed")

    entries = await until(lambda: completed_in_the_audit_store(platform, reason))
    assert {entry["tool"] for entry in entries} == {"k8s_scale_deployment"}
    assert {entry["actor"] for entry in entries} == {"operator@lab"}


async def a_viewer_cannot(platform: Platform) -> None:
    before = await replicas_in_the_cluster(platform)
    answer = await asyncio.to_thread(
        platform.paste,
        f"{OPSBUS} call k8s_scale_deployment namespace=shop-staging name=frontend replicas=9 reason=mischief --yes",
    )
    assert answer.returncode == 4, answer.stdout + answer.stderr
    assert await replicas_in_the_cluster(platform) == before


async def the_first_questions_have_interesting_answers(platform: Platform) -> None:
    async with client(platform, "viewer") as connected:
        alerts = await connected.call_tool("monitoring_get_alerts", {})
        assert not alerts.is_error, alerts.content
        assert "checkout" in json.dumps(alerts.structured_content)
        changes = await connected.call_tool("cmdb_get_change_records", {})
        assert not changes.is_error, changes.content
        assert changes.structured_content["items"]


def ctrl_c_drains_and_leaves_nothing(platform: Platform) -> None:
    if sys.platform == "linux":
        assert len(platform.left_behind()) >= len(SERVICES) + 1, "the search for what is left finds nothing at all"
    platform.process.send_signal(signal.SIGINT)
    rest, _ = platform.process.communicate(timeout=90)
    platform.output += platform._decoder.decode(rest, final=True)
    assert platform.process.returncode == 0, platform.output + platform.logs()
    stopped = platform.output[platform.output.index("Stopping") :]
    order = [stopped.index(f"✓ {name}") for name in ("edge", "k8s-ops", "audit", "sandbox", "nats-server")]
    assert order == sorted(order), stopped
    assert "not everything drained" not in stopped
    assert platform.left_behind() == []
    assert not (platform.folder / ".opsbus" / "run.json").exists()
