"""The cluster manifests and images name what the code has: settings, services, the shipped policy."""

import importlib
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from opsbus.settings import Settings, env_prefix

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "k8s" / "base"
SERVICES = {
    "edge": "edge",
    "k8s-ops": "k8s",
    "monitoring": "monitoring",
    "cmdb": "cmdb",
    "audit": "audit",
    "approvals": "approvals",
}
"""Manifest to service token."""
PLAIN = {"NATS_URL", "DATABASE_URL", "PROMETHEUS_URL", "ALERTMANAGER_URL", "GRAFANA_URL"}


def documents(name: str) -> list[dict[str, Any]]:
    return [doc for doc in yaml.safe_load_all((BASE / f"{name}.yaml").read_text()) if doc]


def settings_class(name: str) -> type[Settings]:
    module = importlib.import_module(f"opsbus_{name.replace('-', '_')}.settings")
    found = [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, Settings)]
    return max(found, key=lambda cls: len(cls.__mro__))


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_variable_is_a_setting(name: str) -> None:
    deployment = next(doc for doc in documents(name) if doc["kind"] == "Deployment")
    fields = settings_class(name).model_fields
    prefix = env_prefix(SERVICES[name])
    for item in deployment["spec"]["template"]["spec"]["containers"][0]["env"]:
        variable = item["name"]
        if variable in PLAIN:
            continue
        own = variable.startswith(prefix) and variable.removeprefix(prefix).lower() in fields
        common = variable.removeprefix("OPSBUS_").lower() in Settings.model_fields
        assert own or common, f"{name}: {variable} is no setting"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_pods_run_with_least_privilege(name: str) -> None:
    pod = next(doc for doc in documents(name) if doc["kind"] == "Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is (name == "k8s-ops")
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"


def test_kustomization_lists_every_manifest() -> None:
    listed = set(yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"])
    assert listed == {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}


def test_the_config_map_is_the_shipped_policy() -> None:
    shipped = (ROOT / "services" / "edge" / "opsbus_edge" / "policy.yaml").read_text()
    config_map = next(doc for doc in documents("edge") if doc["kind"] == "ConfigMap")
    assert config_map["data"]["policy.yaml"].strip() == shipped.strip()


def test_there_is_an_image_for_every_service() -> None:
    targets = set(re.findall(r"^FROM base AS (\S+)$", (ROOT / "compose" / "Dockerfile").read_text(), re.MULTILINE))
    assert targets == {entry.name for entry in entry_points(group="opsbus.services")}
