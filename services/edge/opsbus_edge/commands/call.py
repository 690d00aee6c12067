"""``opsbus call TOOL key=value ...``: calls a tool as any MCP client does; its questions are asked at the terminal."""

from pathlib import Path
from typing import Annotated

import typer

from opsbus_edge.commands.at_edge import AsJson, Ca, Data, Role, Timeout, Token, Url, Where, Yes, perform

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
    url: Url = "",
    token: Token = "",
    role: Role = "viewer",
    data: Data = Path(".opsbus"),
    as_json: AsJson = False,
    yes: Yes = False,
    legacy: Annotated[bool, typer.Option("--legacy", help="Speak the older protocol, with a session.")] = False,
    ca: Ca = None,
    timeout_s: Timeout = 300.0,
) -> None:
    """Call a tool and print what it says."""
    where = Where(url, token, role, data, ca)
    perform(where, tool, arguments or (), as_json=as_json, yes=yes, legacy=legacy, timeout_s=timeout_s)
