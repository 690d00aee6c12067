"""The settings of the practice estate, from the environment (prefix `OPSBUS_SANDBOX_`)."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from opsbus_sandbox.estate.access import ADMIN_USER, PLATFORM_USER


class Account(BaseModel):
    """Somebody who may call the Kubernetes API. Without a `token` a fresh one is made at each start."""

    model_config = ConfigDict(extra="forbid")

    user: str
    groups: tuple[str, ...] = ()
    token: str = Field(default="", repr=False)


def _accounts() -> dict[str, Account]:
    return {
        "opsbus": Account(user=PLATFORM_USER),
        "admin": Account(user=ADMIN_USER, groups=("system:masters",)),
        "alice": Account(user="alice@shop.example", groups=("team-checkout",)),
        "bob": Account(user="bob@shop.example", groups=("on-call",)),
    }


def _path(name: str) -> Path | None:
    text = os.environ.get(name, "").strip()
    return Path(text) if text else None


class SandboxSettings(BaseSettings):
    """Where the two faces listen, where their addresses and the kubeconfig are written, how fast the estate lives."""

    model_config = SettingsConfigDict(env_prefix="OPSBUS_SANDBOX_", extra="forbid", env_nested_delimiter="__")

    host: str = "127.0.0.1"
    kube_port: int = Field(default=0, ge=0, le=65535, description="0: any free port")
    metrics_port: int = Field(default=0, ge=0, le=65535, description="0: any free port")
    state_dir: Path = Path(".opsbus/sandbox")
    speed: float = Field(default=1.0, ge=0.1, le=1000, description="simulated seconds per second")
    seed: int = Field(default=7, description="the same seed gives the same names")
    bare: bool = Field(default=False, description="An API server and its store alone: no nodes, no controllers.")
    history_limit: int = Field(default=20_000, ge=100, le=1_000_000, description="changes a watch can look back on")
    kube_version: str = Field(
        default="",
        pattern=r"^(1\.(2[7-9]|3[0-7]))?$",
        description="Of the API server, 1.27 to 1.37. Empty: the estate's own.",
    )
    kube_lacks: tuple[str, ...] = Field(
        default=(), description="API groups (events.k8s.io), or versions of one (autoscaling/v2), it does not serve."
    )
    kube_down: tuple[str, ...] = Field(
        default=(), description="Versions of API groups that are listed and do not answer (metrics.k8s.io/v1beta1)."
    )
    bookmark_every_s: float = Field(default=60.0, gt=0, le=3600)
    ready_file: Path | None = Field(
        default_factory=lambda: _path("OPSBUS_READY_FILE"),
        description="Written when both faces answer: their addresses.",
    )
    scrape_targets: tuple[str, ...] = Field(default=(), description="Addresses whose /metrics is sampled as well.")
    grafana_token: SecretStr = Field(default=SecretStr(""), description="Empty: the dashboard API asks for none.")
    accounts: dict[str, Account] = Field(default_factory=_accounts, description="the first is the platform's own")
