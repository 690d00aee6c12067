"""The command itself: quick, found commands, broken packages, names, versions."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

OPSBUS = (sys.executable, "-m", "opsbus")


def opsbus(
    environment: dict[str, str], *arguments: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OPSBUS, *arguments], env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


GOOD = """
    import typer
    app = typer.Typer(help="Says hello.")

    @app.command()
    def hello(name: str) -> None:
        "Says hello."
        typer.echo(f"hello {name}")
"""


def test_help_lists_what_packages_add(package: Callable[..., dict[str, str]]) -> None:
    done = opsbus(package("greeter", GOOD, commands={"greet": "greeter:app"}), "--help")
    assert done.returncode == 0, done.stderr
    for command in ("up", "run", "provision", "doctor", "services", "tokens", "new", "version", "greet"):
        assert f" {command} " in done.stdout
    assert "Says hello." in done.stdout
    assert done.stderr == ""


def test_a_command_of_a_package_runs(package: Callable[..., dict[str, str]]) -> None:
    done = opsbus(package("greeter", GOOD, commands={"greet": "greeter:app"}), "greet", "Ada")
    assert (done.returncode, done.stdout) == (0, "hello Ada\n")


def test_a_broken_command_is_named_in_one_line_and_hurts_no_other(package: Callable[..., dict[str, str]]) -> None:
    environment = package("wreck", "raise RuntimeError('no\\nway')", commands={"wreck": "wreck:app"})
    listed = opsbus(environment, "--help")
    assert listed.returncode == 0
    assert "provision" in listed.stdout
    [line] = listed.stderr.splitlines()
    assert line.startswith("opsbus: opsbus.commands 'wreck' of wreck is broken: RuntimeError: no way (")

    assert opsbus(environment, "version").returncode == 0

    asked = opsbus(environment, "wreck")
    assert asked.returncode == 1
    assert "'wreck' of wreck is broken" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_a_command_that_is_no_command_is_said(package: Callable[..., dict[str, str]]) -> None:
    done = opsbus(package("wreck", "app = 7", commands={"wreck": "wreck:app"}), "wreck")
    assert done.returncode == 1
    assert "wreck:app is a int, not a Typer" in done.stderr


def test_our_own_commands_win(package: Callable[..., dict[str, str]]) -> None:
    done = opsbus(package("greeter", GOOD, commands={"version": "greeter:app"}), "version")
    assert done.returncode == 0
    assert "opsbus-contracts" in done.stdout


def test_an_unknown_command_is_said(package: Callable[..., dict[str, str]]) -> None:
    done = opsbus(package("greeter", GOOD), "provisoin")
    assert done.returncode == 2
    assert "provision" in done.stderr
    assert "Traceback" not in done.stderr


def test_services_shows_good_and_broken(package: Callable[..., dict[str, str]]) -> None:
    code = """
        from opsbus.service import Service
        good = Service("good", "good", lambda: print("it runs"), description="does good")
        liar = Service("somebody", "else", lambda: None)
    """
    services = {"good": "goods:good", "liar": "goods:liar", "gone": "goods:gone"}
    environment = package("goods", code, services=services)
    done = opsbus(environment, "services", "good", "liar", "gone")
    assert done.returncode == 1
    assert "does good" in done.stdout
    assert "'liar' of goods is broken: the service calls itself 'somebody'" in done.stderr
    assert "'gone' of goods is broken: AttributeError" in done.stderr

    answer = json.loads(opsbus(environment, "services", "--json", "good").stdout)
    assert [service["name"] for service in answer["services"]] == ["good"]

    assert opsbus(environment, "run", "good").stdout == "it runs\n"
    broken = opsbus(environment, "run", "gone")
    assert broken.returncode == 1
    assert "AttributeError" in broken.stderr
    assert "Traceback" not in broken.stderr


def test_run_suggests_near_names(package: Callable[..., dict[str, str]]) -> None:
    done = opsbus(package("nothing", ""), "run", "k8s")
    assert done.returncode == 1
    assert "no service 'k8s' is installed" in done.stderr
    assert "k8s-ops" in done.stderr


def test_help_imports_nothing_heavy(package: Callable[..., dict[str, str]]) -> None:
    """Measured in modules, not in seconds: a noisy machine must not fail it."""
    code = (
        "import sys\n"
        "from opsbus import cli\n"
        "try:\n    cli.app(['--help'], prog_name='opsbus')\nexcept SystemExit:\n    pass\n"
        "heavy = {'faststream', 'uvicorn', 'kubernetes', 'sqlalchemy', 'mcp', 'opentelemetry'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=package("nothing", ""), capture_output=True, text=True, timeout=60, check=True
    )
    assert "HEAVY []" in done.stdout, done.stdout + done.stderr


def test_tokens_without_a_platform(package: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    done = opsbus(package("nothing", ""), "tokens", folder=tmp_path)
    assert done.returncode == 1
    assert "opsbus up" in done.stderr
    assert opsbus(package("nothing", ""), "tokens", "--role", "root").returncode == 1
