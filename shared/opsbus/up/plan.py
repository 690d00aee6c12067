"""Which processes the platform has, and with what environment each is started. Starting them: supervisor.py."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from opsbus.nats_accounts import move_store
from opsbus.nats_server import ServerOptions, binary, server_config
from opsbus.up import labtokens, ports, probe
from opsbus.up.folder import Folder, write_private
from opsbus.up.installed import Installed
from opsbus.up.keyring import Keyring
from opsbus.up.model import Command, Phase, Spec
from opsbus.up.surroundings import Surroundings, faces_environment
from opsbus_contracts.streams import AUDIT_STORE

NATS = "nats-server"
SANDBOX = "sandbox"
EDGE = "edge"
CMDB = "cmdb"

_PASSED_ON_NEVER = ("OPSBUS_READY_FILE", "OPSBUS_NATS_SEED_FILE", "OPSBUS_HTTP_PORT")
"""Settings of one process: a worker that inherits them from the user's shell would clash with its siblings."""


@dataclass(frozen=True)
class Plan:
    """What all processes share."""

    folder: Folder
    keyring: Keyring
    environment: Mapping[str, str]
    """The user's."""
    brought: Surroundings
    nats_url: str
    edge_port: int
    sandbox_facts: Callable[[], Mapping[str, object]]
    """The sandbox's ready file, once it is ready."""


def nats_spec(folder: Folder, keyring: Keyring, port: int) -> Spec:
    """Our own NATS server: JetStream in the data folder, every identity with its least privilege."""
    config = folder.nats / "nats-server.conf"
    options = ServerOptions(store_dir=folder.nats / "data", users=keyring.users, host=ports.HOST, port=port)

    return Spec(
        name=NATS,
        phase=Phase.BUS,
        log=folder.log(NATS),
        command=lambda: Command((str(binary()), "--config", str(config)), {}),
        probe=probe.bus_ready(ports.HOST, port),
        before_start=lambda: _before_nats(config, options, port),
    )


def _before_nats(config: Path, options: ServerOptions, port: int) -> None:
    move_store(options.store_dir)
    write_private(config, server_config(options, port))


def service_specs(plan: Plan, services: Sequence[Installed]) -> list[Spec]:
    """The services' processes. Each worker keeps its port from run to run, so that metrics can be fetched from it."""
    wanted = [service for service in services if service.name != SANDBOX or plan.brought.sandbox_faces]
    known = plan.folder.state / "ports.json"
    worker_ports = {
        service.name: ports.remembered(known, service.name)
        for service in wanted
        if _phase(service) in (Phase.WORKER, Phase.RECORD)
    }
    return [_spec(plan, service, wanted, worker_ports) for service in wanted]


def _spec(plan: Plan, service: Installed, wanted: list[Installed], worker_ports: dict[str, int]) -> Spec:
    phase = _phase(service)
    ready_file = plan.folder.ready_file(service.name)
    sandbox = [other.name for other in wanted if other.name == SANDBOX]

    def command() -> Command:
        environment = _environment(plan, service, ready_file)
        if phase is Phase.BACKEND:
            environment |= _sandbox_environment(plan, worker_ports.values())
        port = worker_ports.get(service.name, 0)
        if port and ports.is_free(port):
            environment["OPSBUS_HTTP_PORT"] = str(port)
        return Command((sys.executable, "-P", "-m", "opsbus", "run", service.name), environment)

    return Spec(
        name=service.name,
        phase=phase,
        log=plan.folder.log(service.name),
        command=command,
        probe=probe.service_ready(ready_file),
        # A worker without its sandbox would look for real systems, such as the cluster of ~/.kube/config.
        needs=tuple(dict.fromkeys([NATS, *(sandbox if worker_ports.get(service.name) else []), *service.needs])),
        after=tuple(worker_ports) if phase is Phase.EDGE else (),
        before_start=lambda: ready_file.unlink(missing_ok=True),
        stop_timeout_s=40.0,
    )


def _phase(service: Installed) -> Phase:
    if service.kind == "edge":
        return Phase.EDGE
    if service.kind == "backend":
        return Phase.BACKEND
    return Phase.RECORD if service.token == AUDIT_STORE.service else Phase.WORKER


def _environment(plan: Plan, service: Installed, ready_file: Path) -> dict[str, str]:
    found = {name: value for name, value in plan.environment.items() if name not in _PASSED_ON_NEVER}
    found |= {
        "PYTHONUNBUFFERED": "1",
        "NATS_URL": plan.nats_url,
        "OPSBUS_READY_FILE": str(ready_file),
        "OPSBUS_DATA": str(plan.folder.root),
    }
    found.setdefault("OPSBUS_LOG_FORMAT", "text")
    seed = plan.keyring.seeds.get(service.token)
    if seed is not None:
        found["OPSBUS_NATS_SEED_FILE"] = str(seed)
    if service.kind == "backend":
        return found
    if service.kind == "edge":
        return found | _edge_environment(plan)
    found |= faces_environment(plan.sandbox_facts(), plan.brought.sandbox_faces)
    return found | _store_environment(plan, service)


def _sandbox_environment(plan: Plan, worker_ports: Iterable[int]) -> dict[str, str]:
    """Where it keeps its kubeconfig, and whose metrics its Prometheus fetches beside those of its own estate."""
    targets = [f"http://{ports.HOST}:{port}/metrics" for port in (plan.edge_port, *worker_ports)]
    return {
        "OPSBUS_SANDBOX_STATE_DIR": str(plan.folder.state / SANDBOX),
        "OPSBUS_SANDBOX_SCRAPE_TARGETS": json.dumps(targets),
    }


def _edge_environment(plan: Plan) -> dict[str, str]:
    keys = plan.keyring
    return {
        "OPSBUS_EDGE_HTTP_PORT": str(plan.edge_port),
        "OPSBUS_EDGE_JWT_PUBLIC_KEY_FILES": json.dumps([str(keys.lab_public_pem)]),
        "OPSBUS_EDGE_JWT_ISSUER": labtokens.ISSUER,
        "OPSBUS_EDGE_JWT_AUDIENCE": labtokens.AUDIENCE,
        "OPSBUS_EDGE_IDENTITY_KEY_FILE": str(keys.identity_pem),
        "OPSBUS_EDGE_SEAL_KEY_FILE": str(keys.seal_key),
        "OPSBUS_EDGE_AUDIT_DIGEST_KEY_FILE": str(keys.digest_key),
        "OPSBUS_EDGE_AUDIT_SPOOL_FOLDER": str(plan.folder.root / "audit-spool"),
    }


def _store_environment(plan: Plan, service: Installed) -> dict[str, str]:
    """Where cmdb and audit keep what they keep, unless the user brought a database."""
    if plan.brought.cmdb and service.token == CMDB:
        return {}
    found: dict[str, str] = {}
    if service.token == CMDB:
        found["OPSBUS_CMDB_SEED"] = plan.environment.get("OPSBUS_CMDB_SEED") or "shop"
    if service.token in (CMDB, AUDIT_STORE.service):
        name = f"OPSBUS_{service.token.upper()}_DATABASE_URL"
        found[name] = plan.environment.get(name) or store_url(plan, service.token)
    if service.token == AUDIT_STORE.service:
        found |= _checkpoint_environment(plan)
    return found


def _checkpoint_environment(plan: Plan) -> dict[str, str]:
    """What signs the record, and where the checkpoints are kept beside stream and store."""
    own = {
        "OPSBUS_AUDIT_CHECKPOINT_KEY_FILE": str(plan.keyring.checkpoint_pem),
        "OPSBUS_AUDIT_CHECKPOINT_FILE": str(plan.folder.root / "checkpoints.txt"),
    }
    return {name: plan.environment.get(name) or value for name, value in own.items()}


def store_url(plan: Plan, token: str) -> str:
    """The database of a service: the one brought, else a SQLite file in the data folder."""
    return plan.brought.database_url or f"sqlite:///{plan.folder.state / token}.sqlite3"
