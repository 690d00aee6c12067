"""``opsbus call TOOL key=value ...``: calls a tool as any MCP client does; its questions are asked at the terminal."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """[bold]Examples[/bold]

  opsbus call                                    the tools you may call

  opsbus call k8s_get_pods namespaces='["shop"]'

  opsbus call k8s_scale_deployment namespace=shop name=checkout replicas=3 reason=load --role operator

[bold]Exit codes[/bold]  0 done · 1 the call failed · 2 wrong usage · 3 no edge there · 4 not allowed
"""

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EXAMPLES)
def call(
    tool: Annotated[str, typer.Argument(help="MCP name of the tool; none: list them.")] = "",
    arguments: Annotated[
        list[str] | None, typer.Argument(help="key=value, or one JSON object.", show_default=False)
    ] = None,
    url: Annotated[str, typer.Option(envvar="OPSBUS_URL", help="The edge; else the running platform's.")] = "",
    token: Annotated[
        str, typer.Option(envvar="OPSBUS_TOKEN", help="Bearer token; else that of 'opsbus login'.", show_default=False)
    ] = "",
    role: Annotated[str, typer.Option(help="Whose token of the running platform: viewer, operator, admin.")] = "viewer",
    data: Annotated[Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'.")] = Path(".opsbus"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Say yes to every question.")] = False,
    legacy: Annotated[bool, typer.Option("--legacy", help="Speak the older protocol, with a session.")] = False,
    ca: Annotated[
        Path | None, typer.Option(envvar="OPSBUS_CA", help="Certificates to trust, PEM; the system's unless given.")
    ] = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=0.1, help="Give up after this long. Seconds.")] = 300.0,
) -> None:
    """Call a tool and print what it says."""
    import asyncio

    from opsbus.commands.output import fail
    from opsbus.commands.where import edge_access
    from opsbus_edge.commands.client import Failure, Wanted, run

    access = edge_access(url.removesuffix("/mcp"), token, data, role)
    if not access.url:
        fail(f"no platform runs in {data}, and no edge is named", "start one with 'opsbus up', or give --url", 2)
    if access.over:
        fail(f"your sign-in at {access.url} has ended", f"opsbus login --edge {access.url}", 4)
    trusted = str(ca) if ca is not None else access.ca
    wanted = Wanted(tool, tuple(arguments or ()), access.url, access.token, as_json, yes, legacy, timeout_s, trusted)
    try:
        code = asyncio.run(run(wanted))
    except Failure as failure:
        fail(str(failure), failure.hint, failure.code)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(code)
