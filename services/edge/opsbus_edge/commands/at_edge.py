"""What commands that call tools share: the options that say where and as whom, and carrying a call out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NoReturn

import typer

Url = Annotated[str, typer.Option(envvar="OPSBUS_URL", help="The edge; else the running platform's.")]
Token = Annotated[
    str, typer.Option(envvar="OPSBUS_TOKEN", help="Bearer token; else that of 'opsbus login'.", show_default=False)
]
Role = Annotated[str, typer.Option(help="Whose token of the running platform: viewer, operator, admin.")]
Data = Annotated[Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Say yes to every question.")]
Ca = Annotated[
    Path | None, typer.Option(envvar="OPSBUS_CA", help="Certificates to trust, PEM; the system's unless given.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0.1, help="Give up after this long. Seconds.")]


@dataclass(frozen=True)
class Where:
    """Which edge, and as whom."""

    url: str
    token: str
    role: str
    data: Path
    ca: Path | None


def perform(
    where: Where,
    tool: str,
    arguments: Sequence[str],
    *,
    as_json: bool = False,
    yes: bool = False,
    legacy: bool = False,
    timeout_s: float = 300.0,
) -> NoReturn:
    """Call a tool, print what it says, and end the command with the code for it. No tool: list them."""
    import asyncio

    from opsbus.commands.output import fail
    from opsbus.commands.where import edge_access
    from opsbus_edge.commands.client import Failure, Wanted, run

    access = edge_access(where.url.removesuffix("/mcp"), where.token, where.data, where.role)
    if not access.url:
        fail(f"no platform runs in {where.data}, and no edge is named", "start one with 'opsbus up', or give --url", 2)
    if access.over:
        fail(f"your sign-in at {access.url} has ended", f"opsbus login --edge {access.url}", 4)
    trusted = str(where.ca) if where.ca is not None else access.ca
    wanted = Wanted(tool, tuple(arguments), access.url, access.token, as_json, yes, legacy, timeout_s, trusted)
    try:
        code = asyncio.run(run(wanted))
    except Failure as failure:
        fail(str(failure), failure.hint, failure.code)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(code)
