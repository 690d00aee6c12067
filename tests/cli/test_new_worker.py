"""``opsbus new worker``: what it writes works as written, and what it refuses it explains."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opsbus.scaffold.names import BadNameError, names_of


def run(*arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPSBUS_", "PYTEST"))}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env=environment | more,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_the_test_of_a_new_worker_passes_as_written(tmp_path: Path) -> None:
    made = run("opsbus", "new", "worker", "cost-report", folder=tmp_path)
    assert made.returncode == 0, made.stderr
    folder = tmp_path / "cost-report"
    assert {path.name for path in folder.iterdir()} == {
        ".gitignore",
        "Dockerfile",
        "README.md",
        "opsbus_cost_report",
        "pyproject.toml",
        "tests",
    }
    next_steps = made.stdout.split("Next:\n")[1].strip().splitlines()
    assert len(next_steps) == 3
    assert all(word in step for word, step in zip(("pip install", "pytest", " up"), next_steps, strict=True))

    tested = run("pytest", "-q", "-p", "no:cacheprovider", "cost-report", folder=tmp_path)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "3 passed" in tested.stdout


def test_what_is_written_is_clean(tmp_path: Path) -> None:
    assert run("opsbus", "new", "worker", "billing", "--dir", "deep/er", folder=tmp_path).returncode == 0
    folder = tmp_path / "deep" / "er"
    left = [path for path in folder.rglob("*") if path.is_file() and ("@" in path.name or path.suffix == ".tmpl")]
    assert left == []
    checked = run("ruff", "check", "--isolated", "--select", "E,F,W,I,UP,B", "--line-length", "120", ".", folder=folder)
    assert checked.returncode == 0, checked.stdout
    formatted = run("ruff", "format", "--isolated", "--line-length", "120", "--check", ".", folder=folder)
    assert formatted.returncode == 0, formatted.stdout
    typed = run("mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "opsbus_billing", folder=folder)
    assert typed.returncode == 0, typed.stdout


def test_what_is_written_is_found_by_opsbus(tmp_path: Path) -> None:
    assert run("opsbus", "new", "worker", "billing", folder=tmp_path).returncode == 0
    info = tmp_path / "site" / "opsbus_billing-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opsbus-billing\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(_entry_points(tmp_path / "billing" / "pyproject.toml"))
    path = os.pathsep.join([str(info.parent), str(tmp_path / "billing")])

    listed = run("opsbus", "services", "billing", folder=tmp_path, PYTHONPATH=path)
    assert listed.returncode == 0, listed.stderr
    assert "billing" in listed.stdout
    asked = run("opsbus", "billing", "find", "--text", "ledger", folder=tmp_path, PYTHONPATH=path)
    assert asked.stdout.split() == ["ledger", "healthy"]
    again = run("opsbus", "new", "worker", "billing", "--dir", "other", folder=tmp_path, PYTHONPATH=path)
    assert again.returncode == 1
    assert "installed already, by opsbus-billing" in again.stderr


def _entry_points(pyproject: Path) -> str:
    import tomllib

    groups = tomllib.loads(pyproject.read_text())["project"]["entry-points"]
    assert set(groups) == {"opsbus.services", "opsbus.commands"}
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in groups.items()
    )


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "billing").mkdir()
    (tmp_path / "billing" / "precious").write_text("mine")
    done = run("opsbus", "new", "worker", "billing", folder=tmp_path)
    assert done.returncode == 1
    assert "billing is there already" in done.stderr
    assert "--dir" in done.stderr
    assert [path.name for path in (tmp_path / "billing").iterdir()] == ["precious"]


def test_nothing_is_left_of_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("opsbus", "new", "worker", "billing", "--dir", "file/billing", folder=tmp_path)
    assert done.returncode == 1
    assert "file/billing cannot be written" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Cost Report", "cost-report"),
        ("1st", "st"),
        ("", "lower-case"),
        ("a" * 32, "1 to 31"),
        ("../evil", "evil"),
        ("k8s.ops", "k8s-ops"),
        ("bill\n", "bill"),
        ("edge", "identity or a command"),
        ("provision", "identity or a command"),
        ("cmdb", "choose another"),
        ("audit", "choose another"),
    ],
)
def test_bad_names_are_refused_with_a_hint(name: str, hint: str) -> None:
    with pytest.raises(BadNameError) as refused:
        names_of(name)
    assert hint in refused.value.hint


@pytest.mark.parametrize("name", ["b", "billing", "cost-report", "cost_report2", "a" * 31, "json", "import"])
def test_good_names_become_every_spelling(name: str) -> None:
    names = names_of(name)
    assert names.package.isidentifier()
    assert names.distribution.startswith("opsbus-")
    assert names.class_name.isidentifier()
