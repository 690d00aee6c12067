"""A cluster named by OPSBUS_TEST_KUBECONFIG, and the k8s worker before it. Without the variable all is skipped."""

import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator

from opsbus.testing.bus import Bus
from opsbus.testing.caller import Caller, Reply
from opsbus.testing.running import running
from opsbus_contracts import ErrorCode, Identity, Status
from opsbus_contracts.identity import Grant, audience
from opsbus_k8s_ops.app import build

from .admin import Admin, admin_of, current_context, named_kubeconfig
from .lab import Lab, make_now, remove_now

Ask = Callable[..., Awaitable[Reply]]
SEEN: list[str] = []
"""What the run found, for the end of its report."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--clean``: nothing but taking away what earlier runs left."""
    parser.addoption("--clean", action="store_true", help="take away what earlier runs left in the cluster, no tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The cleaning is no test of the others' run, and the others are none of its."""
    clean = config.getoption("--clean", default=False)
    ours = [item for item in items if item.path.parent.name == "cluster"]
    unwanted = [item for item in ours if (item.name == "test_clean") is not bool(clean)]
    if unwanted:
        config.hook.pytest_deselected(items=unwanted)
        items[:] = [item for item in items if item not in unwanted]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Which branches the tests took, and why."""
    for line in SEEN:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """Where the cluster is."""
    return named_kubeconfig()


@pytest.fixture(scope="session")
def lab(kubeconfig: str) -> Iterator[Lab]:
    """What the tests need, in namespaces of its own. It goes at the end, also of a run that is interrupted."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    made = make_now(kubeconfig, current_context(kubeconfig))
    SEEN.append(
        f"cluster {made.context}: namespaces {made.namespace}*, deployments are "
        f"{'acted on' if made.controllers else 'acted on by nobody'}, RBAC is {'on' if made.rbac else 'off'}, "
        f"the worker comes as {'its own account' if made.own_account else 'the administrator'}"
    )
    try:
        yield made
    finally:
        remove_now(made)
        signal.signal(signal.SIGTERM, before)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def admin(lab: Lab) -> AsyncIterator[Admin]:
    """The kubeconfig's own account."""
    async with admin_of(lab.kubeconfig, lab.context) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_bus(opsbus_server: Bus) -> AsyncIterator[Bus]:
    """One bus for all tests: none of them leaves anything on it that another would mind."""
    await opsbus_server.reset()
    yield opsbus_server
    await opsbus_server.close()


def identity(*roles: str, grants: tuple[Grant, ...] = (), permissions: tuple[str, ...] = ("*",)) -> Identity:
    """Somebody with these roles and, unless said otherwise, every permission of the platform."""
    now = int(time.time())
    return Identity(
        sub=f"{roles[0]}@shop.example", roles=list(roles), permissions=list(permissions), grants=list(grants),
        aud=audience("k8s"), auth="test", iat=now, exp=now + 280,
    )  # fmt: skip


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ask(lab: Lab, shared_bus: Bus) -> AsyncIterator[Ask]:
    """Calls a tool of the worker as ``role``, or as ``who``; every answer fits the tool's schema."""
    worker = build()
    schemas = {name: tool.spec.output_schema for name, tool in worker.registry.tools.items()}
    caller = Caller(await shared_bus.connect("edge"), shared_bus.signer, shared_bus.errors)
    await caller.start()

    async def call(tool: str, role: str = "viewer", who: Identity | None = None, **arguments: Any) -> Reply:
        options = arguments.pop("options", {})
        patient = {"deadline_s": 100.0, "timeout_s": 110.0, "identity": who or identity(role)}
        reply = await caller.call("k8s", tool, arguments, **(patient | options))
        if reply.status is Status.OK:
            Draft202012Validator(schemas[tool]).validate(reply.structured)
        return reply

    async with running(shared_bus, worker, **lab.settings):
        yield call


async def confirmed(ask: Ask, tool: str, role: str, **arguments: Any) -> Any:
    """Calls twice: without a token, then with the one that came with the plan."""
    first = (await ask(tool, role, **arguments)).error
    assert first.code is ErrorCode.CONFIRMATION_REQUIRED, first
    return (await ask(tool, role, **arguments, confirm=first.details["confirm"])).structured


def unique(name: str) -> str:
    """A name no other test has."""
    return f"{name}-{secrets.token_hex(3)}"
