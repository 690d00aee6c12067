"""Packages made up for a test: services and commands that are installed by nothing but a folder on the path."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """``package(name, code, services={...}, commands={...})`` writes one; the answer is an environment that has it."""

    def write(name: str, code: str, **groups: dict[str, str]) -> dict[str, str]:
        folder = tmp_path_factory.mktemp("packages")
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = []
        for group, entries in groups.items():
            lines.append(f"[opsbus.{group}]")
            lines += [f"{entry} = {value}" for entry, value in entries.items()]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        return environment(folder)

    return write


def environment(*path: Path) -> dict[str, str]:
    """The environment without what would change a test, with folders on Python's path."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OPSBUS_", "NATS_")) and not name.endswith("_URL") and name != "KUBECONFIG"
    }
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, path)), "COLUMNS": "160", "TERM": "dumb"}
