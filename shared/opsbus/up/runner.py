"""``opsbus up`` from beginning to end: keys, bus, provisioning, processes, the summary, the wait, the way down."""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from opsbus.commands.discover import COMMANDS, SERVICES, names
from opsbus.commands.paths import shown
from opsbus.nats_client import without_password
from opsbus.nats_server import NatsServerError
from opsbus.up import labtokens, logfile, ports
from opsbus.up.folder import AlreadyRunningError, Folder, locked, write_json
from opsbus.up.installed import Installed, ServicesUnknownError, installed
from opsbus.up.keyring import KeyFileError, Keyring, open_keyring
from opsbus.up.model import Row, State
from opsbus.up.plan import EDGE, NATS, SANDBOX, Plan, nats_spec, service_specs, store_url
from opsbus.up.prepare import ProvisionError, prepare_bus
from opsbus.up.screen import Screen
from opsbus.up.signals import Signals
from opsbus.up.summary import Summary, keep, show
from opsbus.up.supervisor import Supervisor
from opsbus.up.surroundings import surroundings

EDGE_PORT = 8080
BOUND_LOGS_EVERY_S = 30.0
KILLED_EXIT_CODE = 130


@dataclass(frozen=True)
class Options:
    """What the user chose."""

    folder: Path
    port: int | None = None
    """The edge's; None: 8080, or another one when that is taken."""
    only: tuple[str, ...] = ()
    """Names of services; empty: all that are installed."""
    once_ready: str = ""
    """A shell command that is run when all is ready; its end is the platform's end."""


class StartError(Exception):
    """The platform cannot start; in one line why, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


async def run_platform(options: Options, console: Console, environment: Mapping[str, str]) -> int:
    """Run the platform until it is told to stop; the exit code.

    Raises:
        StartError: before anything was started.
    """
    folder = Folder(options.folder.absolute())
    try:
        folder.create()
        with locked(folder):
            return await _Platform(options, folder, Screen(console), environment).run()
    except AlreadyRunningError as error:
        raise StartError(str(error), "use that one, stop it, or run another with --data FOLDER") from None
    except OSError as error:
        raise StartError(f"{folder.root}: {error.strerror or error}", "choose another folder with --data") from None


class _Platform:
    """One run."""

    def __init__(self, options: Options, folder: Folder, screen: Screen, environment: Mapping[str, str]) -> None:
        self._options = options
        self._folder = folder
        self._screen = screen
        self._environment = environment
        self._brought = surroundings(environment)
        self._supervisor = Supervisor([], screen)
        self._plan: Plan | None = None

    async def run(self) -> int:
        """Start, wait, stop."""
        self._folder.run_file.unlink(missing_ok=True)
        with Signals(self._supervisor.kill) as signals:
            life = asyncio.create_task(self._live())
            stopping = asyncio.create_task(signals.stop.wait())
            code = 0
            try:
                await asyncio.wait({life, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if life.done():
                    code = life.result()
            except StartError as error:
                self._screen.trouble("opsbus up", str(error), [], error.hint)
                code = 1
            finally:
                life.cancel()
                stopping.cancel()
                await asyncio.gather(life, stopping, return_exceptions=True)
                await self._stop()
            return KILLED_EXIT_CODE if signals.twice else code

    async def _live(self) -> int:
        """From the first key to the reason to stop; the exit code."""
        started = time.monotonic()
        with self._screen:
            listing = await self._listing()
            plan = await self._start_bus(listing)
            self._plan = plan
            if self._brought.named:
                self._screen.say(f"yours in place of the sandbox: {', '.join(self._brought.named)}", style="cyan")
            specs = service_specs(plan, listing)
            for spec in specs:
                logfile.fresh(spec.log)
            self._screen.expect([spec.name for spec in specs])
            self._supervisor.add(specs)
            failed = await self._supervisor.start()
        for found in listing:
            if found.kind == EDGE and found.name in failed:
                raise StartError("the edge did not start", f"its log: {shown(self._folder.log(found.name))}")
        summary = self._summary(plan, listing, failed)
        self._write_run_file(plan, summary)
        show(self._screen.console, summary, time.monotonic() - started)
        return await self._wait(failed)

    # -- the steps ---------------------------------------------------------------------------------------------------

    async def _listing(self) -> list[Installed]:
        row = self._step("services")
        try:
            listing = await installed(self._folder.state / "services.json", self._options.only)
        except ServicesUnknownError as error:
            self._done(row, str(error), State.FAILED)
            raise StartError(str(error), "'make clean' and 'make up' again install it anew") from None
        self._done(row, f"{len(listing.services)} installed")
        for line in listing.broken:
            self._screen.say(line, style="yellow")
        unknown = sorted(set(self._options.only) - set(names(SERVICES)))
        if unknown:
            raise StartError(f"no service '{unknown[0]}' is installed", f"installed: {', '.join(names(SERVICES))}")
        return listing.services

    async def _start_bus(self, services: list[Installed]) -> Plan:
        """Keys, the NATS server, and what is declared on it."""
        keyring = self._keys(services)
        nats_url = self._brought.nats_url
        if nats_url:
            self._done(self._step(NATS), f"{without_password(nats_url)} (yours)")
        else:
            port = ports.remembered(self._folder.state / "ports.json", "nats")
            nats_url = f"nats://{ports.HOST}:{port}"
            spec = nats_spec(self._folder, keyring, port)
            logfile.fresh(spec.log)
            self._supervisor.add([spec])
            try:
                failed = await self._supervisor.start()
            except NatsServerError as error:
                raise StartError(str(error)) from None
            if failed:
                raise StartError("the NATS server did not start", f"its log: {shown(spec.log)}")
        row = self._step("provision")
        try:
            done = await prepare_bus(nats_url, keyring)
        except ProvisionError as error:
            self._done(row, str(error), State.FAILED)
            raise StartError(str(error), error.hint) from None
        self._done(row, done)
        return Plan(
            folder=self._folder,
            keyring=keyring,
            environment=self._environment,
            brought=self._brought,
            nats_url=nats_url,
            edge_port=self._edge_port(),
            sandbox_facts=lambda: self._supervisor.facts(SANDBOX),
        )

    def _keys(self, services: list[Installed]) -> Keyring:
        row = self._step("keys")
        try:
            keyring = open_keyring(self._folder, [service.token for service in services if service.kind != "backend"])
        except KeyFileError as error:
            self._done(row, "", State.FAILED)
            raise StartError(str(error)) from None
        made = f"{keyring.made} made" if keyring.made else "kept from before"
        self._done(row, f"{made}, in {shown(self._folder.keys)}")
        return keyring

    def _edge_port(self) -> int:
        wanted = self._options.port
        if wanted is not None:
            if not ports.is_free(wanted):
                raise StartError(f"port {wanted} is taken by another program", "choose another one with --port")
            return wanted
        if ports.is_free(EDGE_PORT):
            return EDGE_PORT
        port = ports.remembered(self._folder.state / "ports.json", "edge")
        self._screen.say(f"port {EDGE_PORT} is taken by another program: the edge listens on {port}", style="yellow")
        return port

    def _step(self, name: str) -> Row:
        row = Row(name, State.STARTING, since=time.monotonic())
        self._screen.changed(row)
        return row

    def _done(self, row: Row, detail: str, state: State = State.READY) -> None:
        row.seconds = time.monotonic() - row.since
        row.state, row.detail = state, detail
        self._screen.changed(row)

    # -- while it runs -----------------------------------------------------------------------------------------------

    def _summary(self, plan: Plan, listing: list[Installed], failed: list[str]) -> Summary:
        tokens = [labtokens.mint(plan.keyring.lab, role) for role in labtokens.ROLES]
        url = f"http://{ports.HOST}:{plan.edge_port}" if any(found.kind == EDGE for found in listing) else ""
        summary = Summary(url, tokens, self._folder, failed, frozenset(names(COMMANDS)))
        keep(summary)
        return summary

    def _write_run_file(self, plan: Plan, summary: Summary) -> None:
        write_json(
            self._folder.run_file,
            {
                "pid": os.getpid(),
                "edge_url": summary.edge_url,
                "mcp_url": f"{summary.edge_url}/mcp" if summary.edge_url else "",
                "nats_url": plan.nats_url,
                "seeds": {name: str(path) for name, path in plan.keyring.seeds.items()},
                "tokens": {token.role: token.token for token in summary.tokens},
                "audit_database_url": store_url(plan, "audit"),
                "cmdb_database_url": store_url(plan, "cmdb"),
                "sandbox": self._supervisor.facts(SANDBOX),
                "pids": self._supervisor.pids,
                "logs": str(self._folder.logs),
            },
        )

    async def _wait(self, failed: list[str]) -> int:
        """Until there is a reason to stop but a signal; the exit code."""
        tasks: dict[asyncio.Task[int] | asyncio.Task[None], str] = {
            asyncio.create_task(self._bound_logs()): "logs",
            asyncio.create_task(self._supervisor.wait_failed()): "failed",
        }
        if self._options.once_ready:
            tasks[asyncio.create_task(self._once_ready(failed))] = "once_ready"
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if tasks[task] == "once_ready":
                    return int(task.result() or 0)
                task.result()
            self._screen.say("the platform cannot go on without it", style="bold red")
            return 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _once_ready(self, failed: list[str]) -> int:
        if failed:
            self._screen.say("not all is ready: the command is not run", style="yellow")
            return 1
        process = await asyncio.create_subprocess_shell(
            self._options.once_ready, env={**self._environment, "OPSBUS_DATA": str(self._folder.root)}
        )
        try:
            return await process.wait()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()

    async def _bound_logs(self) -> None:
        while True:
            await asyncio.sleep(BOUND_LOGS_EVERY_S)
            for path in self._folder.logs.glob("*.log"):
                if logfile.bound(path):
                    self._screen.say(f"{shown(path)} grew large and was moved to {path.name}.1", style="dim")

    # -- the way down ------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        self._folder.run_file.unlink(missing_ok=True)
        if not self._supervisor.pids:
            return
        self._screen.console.print()
        self._screen.say("Stopping: running calls may end. Ctrl-C again ends at once.", style="dim")
        with self._screen:
            clean = await self._supervisor.stop()
        self._screen.say("Stopped." if clean else "Stopped; not everything drained in time.", style="dim")
