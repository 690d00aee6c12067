"""Where a command finds the bus and the edge: the environment, else what the running ``opsbus up`` wrote down."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opsbus import logins
from opsbus.settings import Settings, load
from opsbus.up.folder import Folder, read_json


class NoPlatformError(Exception):
    """Neither the environment nor a running platform says where to look; one line, and a hint."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.hint = "start one with 'opsbus up', name its folder with --data, or set NATS_URL"


@dataclass(frozen=True)
class EdgeAccess:
    """An edge and a token for it; either may be empty."""

    url: str
    token: str
    ca: str = ""
    """File with the certificates to trust; empty: the system's."""
    over: bool = False
    """There was a sign-in, and it has expired."""


def run_facts(data: Path) -> dict[str, Any]:
    """What the running platform wrote down; empty when none runs, also when its file outlived it."""
    facts = read_json(Folder(data).run_file) or {}
    pid = facts.get("pid")
    return {} if isinstance(pid, int) and not _runs(pid) else facts


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's, so it runs
        return True
    return True


def bus_settings(identity: str, data: Path) -> Settings:
    """How to connect: NATS_URL and OPSBUS_NATS_SEED_FILE, else the running platform's bus and seed.

    Raises:
        NoPlatformError: neither is there.
        SettingsError: a setting is wrong.
    """
    if os.environ.get("NATS_URL") or os.environ.get("OPSBUS_NATS_URL"):
        return load(Settings, identity)
    facts = run_facts(data)
    seed = (facts.get("seeds") or {}).get(identity)
    if not isinstance(facts.get("nats_url"), str) or not isinstance(seed, str):
        raise NoPlatformError(f"no platform runs in {data}, and NATS_URL is not set")
    return load(Settings, identity, nats_url=facts["nats_url"], nats_seed_file=Path(seed))


def edge_access(url: str, token: str, data: Path, role: str = "viewer") -> EdgeAccess:
    """The edge and token that were named, else the running platform's, else those of the latest ``opsbus login``."""
    facts = run_facts(data)
    own_url = str(facts.get("edge_url") or "")
    own_token = str((facts.get("tokens") or {}).get(role) or "")
    url = url.rstrip("/")
    if own_url and url in ("", own_url):
        return EdgeAccess(own_url, token or own_token)
    # A token of this machine is for this machine's edge alone, one of a sign-in for the edge that gave it.
    login = logins.find(url)
    if login is None or (token and not url):
        return EdgeAccess(url, token)
    if token:
        return EdgeAccess(url, token, login.ca)
    return EdgeAccess(login.url, "" if login.over else login.token, login.ca, login.over)
