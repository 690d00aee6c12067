"""``opsbus approvals``: calls that wait for a second person, through the tools of the approvals worker."""

from pathlib import Path
from typing import Annotated

import typer

from opsbus_edge.commands.at_edge import AsJson, Ca, Data, Role, Token, Url, Where, Yes, perform

app = typer.Typer(
    help="Calls that wait for a second person: see them, approve or decline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Key = Annotated[str, typer.Argument(help="As the call that waits and the list name it: k8s.4f1c0a9b2d3e4f5a6b7c.")]
Comment = Annotated[str, typer.Option("--comment", "-m", help="Why; it goes into the record.")]


@app.command("list")
def list_(
    url: Url = "",
    token: Token = "",
    role: Role = "viewer",
    data: Data = Path(".opsbus"),
    as_json: AsJson = False,
    ca: Ca = None,
) -> None:
    """Show the calls that wait, with their plans; the oldest first."""
    perform(Where(url, token, role, data, ca), "approvals_list", (), as_json=as_json)


@app.command()
def approve(
    key: Key,
    comment: Comment = "",
    url: Url = "",
    token: Token = "",
    role: Role = "admin",
    data: Data = Path(".opsbus"),
    as_json: AsJson = False,
    yes: Yes = False,
    ca: Ca = None,
) -> None:
    """Show a call's plan, ask, and approve it. Nobody approves their own."""
    perform(Where(url, token, role, data, ca), "approvals_approve", _named(key, comment), as_json=as_json, yes=yes)


@app.command()
def decline(
    key: Key,
    comment: Comment = "",
    url: Url = "",
    token: Token = "",
    role: Role = "admin",
    data: Data = Path(".opsbus"),
    as_json: AsJson = False,
    yes: Yes = False,
    ca: Ca = None,
) -> None:
    """Show a call's plan, ask, and decline it."""
    perform(Where(url, token, role, data, ca), "approvals_decline", _named(key, comment), as_json=as_json, yes=yes)


def _named(key: str, comment: str) -> tuple[str, ...]:
    from opsbus.commands.output import fail

    service, dot, id = key.partition(".")
    if not dot or not service or not id:
        fail(f"{key!r} names no call that waits", "'opsbus approvals list' shows them: k8s.4f1c0a9b2d3e4f5a6b7c", 2)
    return (f"service={service}", f"id={id}", *([f"comment={comment}"] if comment else []))
