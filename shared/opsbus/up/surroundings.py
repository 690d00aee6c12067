"""Which real systems the environment names, to be used in place of the sandbox's parts and of our own NATS server."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FACES = {
    "KUBECONFIG": "kubeconfig",
    "PROMETHEUS_URL": "prometheus_url",
    "ALERTMANAGER_URL": "alertmanager_url",
    "GRAFANA_URL": "grafana_url",
}
"""What a worker's environment names, and what the sandbox calls it in its ready file."""
CMDBS = ("CMDB_URL", "OPSBUS_CMDB_NETBOX_URL", "DATABASE_URL")
"""A CMDB of the user's own, or the database for ours."""


@dataclass(frozen=True)
class Surroundings:
    """What the user brought."""

    nats_url: str
    """Empty: ours."""
    real: tuple[str, ...]
    """Variables of FACES that are set."""
    named: tuple[str, ...]
    """All variables that stand for a real system in place of ours."""
    cmdb: bool
    """A CMDB or a database was brought: it is not filled with the practice estate."""
    database_url: str
    """Empty: SQLite files in the data folder."""

    @property
    def sandbox_faces(self) -> tuple[str, ...]:
        """What the sandbox has to stand in for."""
        return tuple(name for name in FACES if name not in self.real)


def surroundings(environment: Mapping[str, str]) -> Surroundings:
    """Read the environment; a variable that is set but empty counts as not set."""

    def given(name: str) -> str:
        return environment.get(name, "").strip()

    return Surroundings(
        nats_url=given("NATS_URL"),
        real=tuple(name for name in FACES if given(name)),
        named=tuple(name for name in (*FACES, *CMDBS) if given(name)),
        cmdb=any(given(name) for name in CMDBS),
        database_url=given("DATABASE_URL"),
    )


def faces_environment(facts: Mapping[str, Any], wanted: tuple[str, ...]) -> dict[str, str]:
    """The variables that point workers to the sandbox, out of its ready file."""
    return {name: str(facts[FACES[name]]) for name in wanted if facts.get(FACES[name])}
