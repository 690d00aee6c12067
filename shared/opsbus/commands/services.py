"""``opsbus services``: the services that are installed here."""

from typing import Annotated

import typer


def services(
    only: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="These alone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """List the installed services, broken ones included."""
    import json

    from opsbus.commands.discover import all_services
    from opsbus.commands.output import warn

    found, broken = all_services(only)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "services": [
                        {
                            "name": service.name,
                            "token": service.token,
                            "kind": service.kind,
                            "order": service.order,
                            "needs": list(service.needs),
                            "description": service.description,
                        }
                        for service in found
                    ],
                    "broken": [str(error) for error in broken],
                }
            )
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("service", "token", "kind", "needs", "what"):
        table.add_column(title, no_wrap=title != "what")
    for service in found:
        table.add_row(service.name, service.token, service.kind, ", ".join(service.needs), service.description)
    Console().print(table)
    for error in broken:
        warn(str(error))
    if broken:
        raise typer.Exit(1)
