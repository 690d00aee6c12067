"""Where the commands find the bus and the store: the environment, else what the running `opsbus up` wrote down."""

import json
import os
from pathlib import Path
from typing import Any

from opsbus import Settings
from opsbus.settings import load

RUN_FILE = "run.json"
IDENTITY = "auditor"


class PlatformError(Exception):
    """Neither the environment nor a running platform says where to look."""


def run_facts(folder: str) -> dict[str, Any] | None:
    """What the running platform wrote down; None: there is no readable file."""
    try:
        facts = json.loads((Path(folder) / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None


def bus_settings(folder: str) -> Settings:
    """How to connect as the auditor: NATS_URL and OPSBUS_NATS_SEED_FILE, else the running platform.

    Raises:
        PlatformError: neither is there.
        SettingsError: a setting is wrong.
    """
    if os.environ.get("NATS_URL") or os.environ.get("OPSBUS_NATS_URL"):
        return load(Settings, IDENTITY)
    facts = run_facts(folder)
    if facts is None:
        raise PlatformError(f"no platform runs here: there is no {Path(folder) / RUN_FILE}, and NATS_URL is not set")
    seeds = facts.get("seeds")
    seed = seeds.get(IDENTITY) if isinstance(seeds, dict) else None
    url = facts.get("nats_url")
    if not isinstance(seed, str) or not isinstance(url, str):
        raise PlatformError(f"{Path(folder) / RUN_FILE} names no bus with a seed of the identity {IDENTITY}")
    return load(Settings, IDENTITY, nats_url=url, nats_seed_file=Path(seed))


def store_url(given: str | None, folder: str) -> str:
    """The store's address: the option, OPSBUS_AUDIT_DATABASE_URL, the running platform's, DATABASE_URL.

    Raises:
        PlatformError: none of them is there.
    """
    facts = run_facts(folder) or {}
    written = facts.get("audit_database_url")
    candidates = (
        given,
        os.environ.get("OPSBUS_AUDIT_DATABASE_URL"),
        written if isinstance(written, str) else None,
        os.environ.get("DATABASE_URL"),
    )
    for candidate in candidates:
        if candidate:
            return candidate
    raise PlatformError(f"no store is named, and no platform runs here: there is no {Path(folder) / RUN_FILE}")
