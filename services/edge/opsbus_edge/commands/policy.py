"""``opsbus policy``: check one, explain a decision, try a new one on what was done. Only typer is imported here."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="The policy: check it, explain a decision, try a new one on what was done.",
)

File = Annotated[
    Path | None,
    typer.Option("--policy", envvar="OPSBUS_EDGE_POLICY_FILE", help="The policy; the one shipped unless given."),
]
Data = Annotated[Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
DATA = Path(".opsbus")


@app.command()
def check(file: Annotated[Path, typer.Argument(help="The policy.")]) -> None:
    """Check a policy file. A mistake is told with its line; exit code 1."""
    from opsbus_edge.commands import policy_work

    policy_work.check(file)


@app.command()
def explain(
    role: Annotated[list[str], typer.Option(help="A role of the caller; repeat it for more.")],
    tool: Annotated[str, typer.Option(help="MCP name: k8s_scale_deployment.")],
    args: Annotated[str, typer.Option(help="The call's arguments, a JSON object.")] = "{}",
    permission: Annotated[
        str, typer.Option(help="What the tool needs; else the running platform's catalogue says it.")
    ] = "",
    policy: File = None,
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Say whether a role may make a call, and by which line of the policy. Exit code 0: yes, 3: no."""
    from opsbus_edge.commands import policy_work

    policy_work.explain(tuple(role), tool, args, permission, policy, as_json, data)


@app.command("test")
def try_new(
    new: Annotated[Path, typer.Argument(metavar="NEW.yaml", help="The policy to try.")],
    since: Annotated[str, typer.Option(help="How far back: RFC 3339 or now-7d.")] = "now-7d",
    as_json: AsJson = False,
    data: Data = DATA,
) -> None:
    """Decide on the recorded calls again, with a new policy, and list every decision that would change.

    Exit code 0: none would; 3: some would. Calls that cannot be decided on again are counted, never guessed.
    """
    from opsbus_edge.commands import policy_work

    policy_work.test(new, since, as_json, data)
