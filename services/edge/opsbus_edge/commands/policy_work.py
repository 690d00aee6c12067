"""What ``opsbus policy`` does. Reading the record again: policy_replay.py."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import typer
from nats import errors
from nats.js import errors as js_errors

from opsbus.commands.output import fail
from opsbus.commands.where import NoPlatformError
from opsbus.nats_client import ConnectError
from opsbus.permission import said, touched
from opsbus.settings import SettingsError
from opsbus.toolerror import ToolError, near
from opsbus.when import parse_when
from opsbus_edge.commands.policy_replay import Replayed, Tool, catalogue, replay
from opsbus_edge.gates.policy import Policy, load_policy
from opsbus_edge.gates.policy.judge import judge

NO = 3
"""Exit code: not permitted, or some decision would change."""
T = TypeVar("T")


def check(file: Path) -> None:
    """Load the policy and say what it holds."""
    policy = _load(file)
    typer.echo(f"{file}: {len(policy.roles)} roles ({', '.join(policy.roles)}), digest {policy.digest}")


def explain(
    roles: tuple[str, ...], tool: str, args: str, permission: str, file: Path | None, as_json: bool, data: Path
) -> None:
    """Judge one call."""
    policy = _load(file)
    for role in roles:
        if role not in policy.roles:
            fail(f"the policy has no role {role!r}", _meant(role, policy.roles), 2)
    try:
        arguments = json.loads(args)
    except ValueError as error:
        fail(f"--args is no JSON: {error}", """--args '{"namespace": "shop"}'""", 2)
    if not isinstance(arguments, dict):
        fail("--args is no JSON object", """--args '{"namespace": "shop"}'""", 2)
    needed, scope = (permission, {}) if permission else _needs(tool, data)
    touches = touched(arguments, scope)
    found = judge(policy, roles, policy.grant(roles), needed, lambda: touches, tool)
    possible = [said(grant) for grant in found.decision.possible]
    if as_json:
        facts = {"permitted": found.permitted, "rule": found.rule, "permission": found.needed, "touches": touches}
        typer.echo(json.dumps(facts | {"approval": found.approval.value, "would_permit": possible}))
    else:
        typer.echo(f"{'yes' if found.permitted else 'no'}: {found.rule}")
        typer.echo(f"  needs      {found.needed}")
        stated = "; ".join(f"{name} {', '.join(values)}" for name, values in touches.items())
        typer.echo(f"  touches    {stated or 'nothing that the arguments name'}")
        if found.permitted:
            typer.echo(f"  approval   {found.approval.value}")
        for text in possible:
            typer.echo(f"  permitted  {text}")
    raise typer.Exit(0 if found.permitted else NO)


def test(file: Path, since: str, as_json: bool, data: Path) -> None:
    """Replay the record's calls and show what would change."""
    policy = _load(file)
    try:
        start = parse_when(since, "since")
    except ToolError as error:
        fail(f"--since: {error.message}", error.hint, 2)
    found = _on_bus(lambda: replay(policy, start, data))
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        _show(found)
    raise typer.Exit(NO if found.changes else 0)


def _show(found: Replayed) -> None:
    for change in found.changes.values():
        typer.echo(
            f"{change.before} -> {change.after}  {change.tool}  {', '.join(change.roles) or 'no role'}"
            f"  {change.calls} call{'s' if change.calls > 1 else ''},"
            f" last {change.last:%Y-%m-%d %H:%M} by {change.actor}"
        )
        typer.echo(f"    was {change.old_rule or 'not recorded'}; would be {change.new_rule}")
        if change.touches:
            typer.echo(f"    touching {change.touches}")
    verdict = f"{found.changed_calls} would change" if found.changes else "no decision would change"
    typer.echo(f"{found.calls} calls decided on again, {verdict}")
    for why, count in found.undecided.items():
        typer.echo(f"{count} could not be decided on again: {why}", err=True)


def _load(file: Path | None) -> Policy:
    try:
        return load_policy(file)
    except SettingsError as error:
        fail(str(error).removeprefix("setting policy_file: "), "line numbers are of that file")


def _needs(tool: str, data: Path) -> tuple[str, dict[str, str]]:
    tools: dict[str, Tool] = _on_bus(lambda: catalogue(data))
    found = tools.get(tool)
    if found is None:
        _unknown(tool, list(tools))
    return found.permission, found.scope


def _unknown(tool: str, known: list[str]) -> NoReturn:
    fail(f"no worker offers {tool!r} now", _meant(tool, known) or "give its permission: --permission k8s:scale", 2)


def _meant(word: str, known: list[str]) -> str:
    names = near(word, known)
    return f"did you mean {', '.join(names)}?" if names else ""


def _on_bus(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    try:
        return asyncio.run(work())
    except NoPlatformError as error:
        fail(str(error), error.hint)
    except (ConnectError, SettingsError) as error:
        fail(str(error), "the seed file must be the one of the identity 'auditor'")
    except (errors.Error, js_errors.Error, TimeoutError, OSError) as error:
        fail(
            f"the bus does not answer ({type(error).__name__})", "is it running, and provisioned? 'opsbus doctor' looks"
        )
