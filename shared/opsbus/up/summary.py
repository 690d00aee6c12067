"""What stands on the screen when all is ready: where it is, who may do what, and lines to paste."""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from opsbus.commands.paths import command_line, shown
from opsbus.up.folder import DEFAULT, Folder, write_private
from opsbus.up.labtokens import LIFETIME_S, LabToken

EXAMPLE_TOOL = "k8s_get_pods"


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
    body = shlex.quote(json.dumps({"arguments": {"namespaces": ["shop"]}}))
    return (
        f'curl -sS -H "Authorization: Bearer $(cat {token})" -H "Content-Type: application/json" '
        f"-d {body} {summary.edge_url}/api/v1/tools/{EXAMPLE_TOOL}/execute"
    )


def call_line(summary: Summary) -> str:
    """The same call by our own command."""
    return f"{command_line()} call {EXAMPLE_TOOL} namespaces=shop{_data_option(summary)}"


def _data_option(summary: Summary) -> str:
    """What a command needs so as to find the platform."""
    return "" if summary.folder.root == DEFAULT.absolute() else f" --data {shlex.quote(shown(summary.folder.root))}"


def show(console: Console, summary: Summary, seconds: float) -> None:
    """Print it. Long lines are left to the terminal to wrap, so that they can be copied whole."""
    for line in _lines(summary, seconds):
        console.print(line, soft_wrap=True)


def _lines(summary: Summary, seconds: float) -> Iterator[Text]:
    """What is needed first stands last: it is what a short terminal shows."""
    yield Text()
    if summary.missing:
        without = f", without {', '.join(summary.missing)}: see above"
        yield _line((f"Running after {seconds:.1f} s", "bold yellow"), without)
    else:
        yield _line((f"Ready in {seconds:.1f} s", "bold green"))
    if summary.edge_url:
        yield from _token_lines(summary)
        yield from _client_lines(summary)
        yield from _edge_lines(summary)
    yield Text()
    doctor = f"{command_line()} doctor{_data_option(summary)}"
    yield _line(("Logs   ", "dim"), f"{shown(summary.folder.logs)}/", ("     Health  ", "dim"), doctor)
    yield Text()
    yield _line(("Ctrl-C stops", "bold"))


def _token_lines(summary: Summary) -> Iterator[Text]:
    yield Text()
    where = f"  good for {LIFETIME_S / 3600:.0f} hours; also in {shown(summary.folder.tokens)}/"
    yield _line(("Tokens", "bold"), (where, "dim"))
    for token in summary.tokens:
        yield Text()
        yield _line((f"{token.role:<9}", "cyan"), (token.token, "dim"))


def _client_lines(summary: Summary) -> Iterator[Text]:
    yield Text()
    yield _line(("Connect an assistant", "bold"), (f"  this is {shown(http_client_file(summary.folder))}", "dim"))
    yield Text()
    yield _line((json.dumps(http_client(summary)), "dim"))
    if "stdio" in summary.commands:
        yield Text()
        where = f"  this is {shown(stdio_client_file(summary.folder))}"
        yield _line(("or let it start its own end of the bus", "bold"), (where, "dim"))
        yield Text()
        yield _line((json.dumps(stdio_client(summary)), "dim"))


def _edge_lines(summary: Summary) -> Iterator[Text]:
    yield Text()
    yield _line(("Ask it something", "bold"), ("  in another terminal", "dim"))
    if "call" in summary.commands:
        yield Text()
        yield _line(call_line(summary))
    yield Text()
    yield _line(curl_line(summary))
    yield Text()
    yield _line(("MCP    ", "dim"), (f"{summary.edge_url}/mcp", "bold"))
    yield _line(("REST   ", "dim"), f"{summary.edge_url}/docs")


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble("  ", *parts)
