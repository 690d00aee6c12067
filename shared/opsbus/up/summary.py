"""What stands on the screen when all is ready: where it is, who may do what, and lines to paste."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from opsbus.commands.paths import command_line, shown
from opsbus.up.folder import Folder, write_private
from opsbus.up.labtokens import LIFETIME_S, LabToken

EXAMPLE_TOOL = "k8s_get_pods"
EXAMPLE_ARGUMENTS = {"namespaces": ["shop"]}


@dataclass(frozen=True)
class Summary:
    """What the user needs to go on."""

    edge_url: str
    tokens: Sequence[LabToken]
    folder: Folder
    missing: Sequence[str]
    """Processes that were given up."""
    commands: frozenset[str]
    """Sub-commands that installed packages add."""


def keep(summary: Summary) -> None:
    """Write the tokens and the client configurations to files, for shells and assistants to read."""
    for token in summary.tokens:
        write_private(token_file(summary.folder, token.role), token.token + "\n")
    write_private(http_client_file(summary.folder), json.dumps(http_client(summary), indent=2) + "\n")
    write_private(stdio_client_file(summary.folder), json.dumps(stdio_client(summary), indent=2) + "\n")


def token_file(folder: Folder, role: str) -> Path:
    """The file with the role's token and nothing else."""
    return folder.tokens / role


def http_client_file(folder: Folder) -> Path:
    """The client configuration for HTTP."""
    return folder.root / "mcp-http.json"


def stdio_client_file(folder: Folder) -> Path:
    """The client configuration for stdio."""
    return folder.root / "mcp-stdio.json"


def http_client(summary: Summary) -> dict[str, object]:
    """What an assistant that speaks HTTP is configured with: the operator's token."""
    token = next(token.token for token in summary.tokens if token.role == "operator")
    return {
        "mcpServers": {
            "opsbus": {
                "type": "http",
                "url": f"{summary.edge_url}/mcp",
                "headers": {"Authorization": f"Bearer {token}"},
            }
        }
    }


def stdio_client(summary: Summary) -> dict[str, object]:
    """What an assistant that starts its servers itself is configured with."""
    program, *arguments = shlex.split(command_line(absolute=True))
    return {
        "mcpServers": {
            "opsbus": {
                "command": program,
                "args": [*arguments, "stdio"],
                "env": {"OPSBUS_DATA": str(summary.folder.root)},
            }
        }
    }


def curl_line(summary: Summary) -> str:
    """A call over REST; it works in any folder."""
    token = shlex.quote(str(token_file(summary.folder, "viewer")))
    body = shlex.quote(json.dumps({"arguments": EXAMPLE_ARGUMENTS}))
    return (
        f'curl -sS -H "Authorization: Bearer $(cat {token})" -H "Content-Type: application/json" '
        f"-d {body} {summary.edge_url}/api/v1/tools/{EXAMPLE_TOOL}/execute"
    )


def call_line() -> str:
    """The same call by our own command."""
    return f"{command_line()} call {EXAMPLE_TOOL} {shlex.quote(json.dumps(EXAMPLE_ARGUMENTS))}"


def show(console: Console, summary: Summary, seconds: float) -> None:
    """Print it. Long lines are left to the terminal to wrap, so that they can be copied whole."""

    def line(*parts: str | tuple[str, str]) -> None:
        console.print(Text.assemble("  ", *parts), soft_wrap=True)

    console.print()
    if summary.missing:
        line((f"Running after {seconds:.1f} s", "bold yellow"), f", without {', '.join(summary.missing)}: see above.")
    else:
        line((f"Ready in {seconds:.1f} s.", "bold green"))
    console.print()
    line(("MCP   ", "dim"), (f"{summary.edge_url}/mcp", "bold"))
    line(("REST  ", "dim"), f"{summary.edge_url}/docs")
    console.print()
    line(("Ask it something, from another terminal:", "bold"))
    console.print()
    if "call" in summary.commands:
        line("  ", call_line())
        console.print()
    line("  ", curl_line(summary))
    console.print()
    line(("Tokens ", "bold"), (f"({LIFETIME_S / 3600:.0f} hours; also in {shown(summary.folder.tokens)}/)", "dim"))
    for token in summary.tokens:
        console.print()
        line("  ", (f"{token.role:<9}", "cyan"), (token.token, "dim"))
    console.print()
    line(("Connect an assistant", "bold"), (f"  as in {shown(http_client_file(summary.folder))}:", "dim"))
    console.print()
    for text in json.dumps(http_client(summary), indent=2).splitlines():
        line("  ", (text, "dim"))
    if "stdio" in summary.commands:
        console.print()
        line(("  or over stdio, as in ", "dim"), (f"{shown(stdio_client_file(summary.folder))}:", "dim"))
        console.print()
        for text in json.dumps(stdio_client(summary), indent=2).splitlines():
            line("  ", (text, "dim"))
    console.print()
    line(("Logs  ", "dim"), f"{shown(summary.folder.logs)}/", ("    Check  ", "dim"), f"{command_line()} doctor")
    line(("Ctrl-C stops.", "bold"))
