"""What a worker loads when it starts: nothing large that it may never need. And who asks for such a thing gets it."""

import json
import subprocess
import sys

import pytest

LARGE = (
    "alembic",
    "asyncpg",
    "jsonschema",
    "kubernetes.client",
    "matplotlib",
    "numpy",
    "opentelemetry.exporter",
    "requests",
    "sqlalchemy.orm",
    "typer",
    "uvicorn.main",
)


def loaded(program: str) -> list[str]:
    """Of LARGE and aiohttp, once the program has run in a Python of its own."""
    told = f"print(json.dumps([name for name in {(*LARGE, 'aiohttp')} if name in sys.modules]))"
    asked = f"import json, sys\n{program}\n{told}"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=120, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(
    ("package", "needs"),
    [
        ("opsbus_approvals", []),
        ("opsbus_audit", []),
        ("opsbus_cmdb", []),
        ("opsbus_k8s_ops", ["aiohttp"]),
        ("opsbus_monitoring", ["aiohttp"]),
    ],
)
def test_a_worker_that_starts(package: str, needs: list[str]) -> None:
    assert loaded(f"import {package}.app, opsbus.runtime") == needs


def test_an_edge_that_starts() -> None:
    program = "import opsbus_edge.app, opsbus_edge.wiring, opsbus_edge.mcp_face.app\n"
    told = "print([name for name in ('mcp.client', 'mcp.server.mcpserver') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}{told}"], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "[]\n"


def test_the_rest_of_the_mcp_sdk_is_there_for_who_asks() -> None:
    program = (
        "from opsbus_edge import mcp_light\n"
        "from mcp.server.lowlevel.server import Server as before\n"
        "import mcp\n"
        "from mcp import Client\n"
        "from mcp.server import MCPServer, Server\n"
        "assert mcp.types.Tool and Client and MCPServer and Server is before\n"
    )
    loaded(program)


def test_a_session_of_sqlalchemy_is_there_for_who_asks() -> None:
    program = (
        "from opsbus import sql_light\n"
        "from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker\n"
        "import sqlalchemy.ext.asyncio.session as there\n"
        "assert AsyncSession is there.AsyncSession and async_sessionmaker is there.async_sessionmaker\n"
        "assert not hasattr(sys.modules['sqlalchemy.ext.asyncio'], 'nothing')\n"
    )
    assert "sqlalchemy.orm" in loaded(program)


def test_the_rest_of_the_kubernetes_client_is_there_for_who_asks() -> None:
    program = (
        "from opsbus_k8s_ops.kube_light import ApiClient, Configuration\n"
        "pod = ApiClient.deserialize.__globals__['kubernetes'].aio.client.models.V1Pod\n"
        "assert pod(kind='Pod').kind == 'Pod' and 'kubernetes' not in sys.modules\n"
        "import kubernetes\n"
        "from kubernetes import aio\n"
        "from kubernetes.aio import client, watch\n"
        "assert kubernetes.client.CoreV1Api and kubernetes.aio is aio and watch.Watch\n"
        "assert client.ApiClient is ApiClient and client.Configuration is Configuration\n"
    )
    assert "kubernetes.client" in loaded(program)
