"""``opsbus doctor``: is the platform well? One line per finding; exit code 1 when something does not work."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from opsbus.doctor.finding import Finding


def doctor(
    data: Annotated[
        Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'; used unless NATS_URL is set.")
    ] = Path(".opsbus"),
    edge_url: Annotated[str, typer.Option(envvar="OPSBUS_EDGE_URL", help="The edge; the running platform's.")] = "",
    token: Annotated[str, typer.Option(envvar="OPSBUS_TOKEN", help="A token for it.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Look at the bus, the streams, the workers and the edge; say what is wrong and what to do."""
    import asyncio
    import json
    from dataclasses import asdict

    from opsbus.commands.where import NoPlatformError, bus_settings, edge_access
    from opsbus.doctor.examine import IDENTITY, examine
    from opsbus.doctor.finding import Level
    from opsbus.settings import SettingsError

    settings, nowhere = None, ""
    try:
        settings = bus_settings(IDENTITY, data)
    except (NoPlatformError, SettingsError) as error:
        nowhere = str(error)
    findings = asyncio.run(examine(settings, edge_access(edge_url, token, data), nowhere))
    if as_json:
        for finding in findings:
            typer.echo(json.dumps(asdict(finding)))
    else:
        _show(findings)
    raise typer.Exit(1 if any(finding.level is Level.FAIL for finding in findings) else 0)


def _show(findings: "list[Finding]") -> None:
    from rich.console import Console
    from rich.text import Text

    from opsbus.doctor.finding import Level

    styles = {Level.OK: ("✓", "green"), Level.WARN: ("!", "yellow"), Level.FAIL: ("✗", "bold red")}
    console = Console(highlight=False, markup=False, emoji=False)
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        mark, style = styles[finding.level]
        level = (f"{finding.level.value:<5}", style)
        line = Text.assemble("  ", (mark, style), " ", level, f"{finding.subject:<{width}}  ", (finding.detail, "dim"))
        console.print(line, soft_wrap=True)
        if finding.hint:
            console.print(Text.assemble(" " * 9, ("→ ", "yellow"), finding.hint), soft_wrap=True)
    bad = sum(finding.level is Level.FAIL for finding in findings)
    odd = sum(finding.level is Level.WARN for finding in findings)
    told = [f"{bad} failed" if bad else "", f"{odd} to look at" if odd else ""]
    console.print(f"\n  {' · '.join(text for text in told if text) or 'All is well.'}")
