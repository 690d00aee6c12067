"""``opsbus keys``: API keys, and the key that signs identities. Doing it: apikey_store.py, rotation.py."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from opsbus.commands.keeper import KEEPER, guarded, keeper, span, user

if TYPE_CHECKING:
    from opsbus.apikey_store import ApiKeyStore, Listed, Made

T = TypeVar("T")

_EXPIRES = "When it ends: 90d, 12h, 2027-01-31, or never."

app = typer.Typer(no_args_is_help=True, help="API keys: make, list, rotate, revoke; and the key that signs identities.")

Data = Annotated[
    Path, typer.Option(envvar="OPSBUS_DATA", help="Data folder of 'opsbus up'; used unless NATS_URL is set.")
]
By = Annotated[str, typer.Option("--by", help="Who does this, for the record; the user of this shell unless given.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="Of the key, as 'opsbus keys list' shows it.")]
DATA = Path(".opsbus")


@app.command()
def create(
    owner: Annotated[str, typer.Option(help="Whom its calls are made as: sub in policy, limits and record.")],
    role: Annotated[list[str], typer.Option(help="A role of the policy; repeat it for more.")],
    expires: Annotated[str, typer.Option(help=_EXPIRES)] = "90d",
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    by: By = "",
    data: Data = DATA,
) -> None:
    """Make an API key. It is printed once and kept nowhere."""
    until = _expiry(expires)
    made = _run(data, by, lambda store: store.create(owner, role, until, description))
    _show(made, f"made for {made.key.owner} ({', '.join(made.key.roles)}), {_until(made.key.expires)}")


@app.command("list")
def list_keys(
    json: Annotated[bool, typer.Option("--json", help="A JSON list, for programs.")] = False, data: Data = DATA
) -> None:
    """List the API keys: owner, roles, expiry, last use, state. Never a secret."""
    import time

    found = _run(data, "", lambda store: store.all())
    rows = [_row(one, time.time()) for one in found]
    if json:
        import orjson

        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
        return
    if not rows:
        typer.echo("no API keys; 'opsbus keys create --owner NAME --role ROLE' makes one")
        return
    columns = ("id", "state", "owner", "roles", "expires", "last_used", "description")
    lines = [columns, *(tuple(_cell(row[name]) for name in columns) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    for line in lines:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@app.command()
def rotate(
    id: KeyId,
    grace: Annotated[str, typer.Option(help="How long the present secret stays good: 1h, 30m, 0s.")] = "1h",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    by: By = "",
    data: Data = DATA,
) -> None:
    """Give an API key a new secret; the present one is good for the grace time. ID 'identity': the signing key."""
    from opsbus.apikey_store import GRACE_MAX_S

    if id == "identity":
        rotate_identity(reason=reason, by=by, data=data)
        return
    grace_s = span(grace, "--grace", GRACE_MAX_S)
    made = _run(data, by, lambda store: store.rotate(id, grace_s, reason))
    good = (
        f"the secret before is good until {_time(made.key.previous_until)}" if grace_s else "the one before is no more"
    )
    _show(made, f"rotated; {good}")


@app.command()
def revoke(
    id: KeyId,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    by: By = "",
    data: Data = DATA,
) -> None:
    """End an API key at once, on every edge."""
    key = _run(data, by, lambda store: store.revoke(id, reason))
    typer.echo(f"revoked {key.id} of {key.owner}")


@app.command("rotate-identity")
def rotate_identity(
    key_file: Annotated[
        Path | None, typer.Option(help="PEM the edge reads (identity_key_file); else the running platform's.")
    ] = None,
    adopt: Annotated[str, typer.Option(help="How long edges may take to read the new file.")] = "2m",
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    by: By = "",
    data: Data = DATA,
) -> None:
    """Make a new key that signs identities; edges and workers take it up while they run."""
    from opsbus.rotation import ADOPT_MAX_S, rotate_identity_key
    from opsbus.up.folder import Folder

    path = key_file or Folder(data).keys / "identity-signing.pem"
    adopt_s = span(adopt, "--adopt", ADOPT_MAX_S)

    async def work() -> Any:
        async with keeper(data) as js:
            return await rotate_identity_key(js, path, adopt_s=adopt_s, by=by or user(), reason=reason)

    done = guarded(work)
    typer.echo(f"{done.new} signs identities from now on: {path} is written; edges take it up within seconds")
    typer.echo(f"{done.old} is good until {_time(done.old_until)}, for the tokens it has signed")
    for kid in done.withdrawn:
        typer.echo(f"{kid} was past its time and is withdrawn")


def _run(data: Path, by: str, work: "Callable[[ApiKeyStore], Awaitable[T]]") -> T:
    """``work`` on the keys of the bus, as the keeper."""

    async def connected() -> T:
        from opsbus.apikey_store import ApiKeyStore
        from opsbus.platform_audit import PlatformAudit

        async with keeper(data) as js:
            return await work(ApiKeyStore(js, PlatformAudit(js, KEEPER), by or user()))

    return guarded(connected)


def _show(made: "Made", what: str) -> None:
    typer.echo(f"{made.key.id} {what}. Shown this once:", err=True)
    typer.echo(made.shown)


def _row(one: "Listed", now: float) -> dict[str, Any]:
    from opsbus.apikeys import state

    key, use = one.key, one.use
    return {
        "id": key.id,
        "state": state(key, now).value,
        "owner": key.owner,
        "roles": key.roles,
        "description": key.description,
        "created": _iso(key.created),
        "expires": _iso(key.expires),
        "rotated": _iso(key.rotated),
        "previous_until": _iso(key.previous_until if key.previous_until > now else 0),
        "revoked": _iso(key.revoked),
        "last_used": _iso(use.last_used if use else 0),
        "last_address": use.address if use else "",
    }


def _cell(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else value or "-"


def _iso(moment: int) -> str | None:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment else None


def _time(moment: int) -> str:
    return _iso(moment) or "never"


def _until(moment: int) -> str:
    return f"good until {_time(moment)}" if moment else "without an end"


def _expiry(text: str) -> int:
    """Unix seconds; 0: never."""
    from opsbus.commands.output import fail
    from opsbus.toolerror import ToolError
    from opsbus.when import parse_when

    if text.strip() == "never":
        return 0
    given = text.strip()
    now = datetime.now(UTC)
    try:
        when = parse_when(
            f"now+{given}" if given[:1].isdigit() and given[-1:] in "smhdw" else given, "--expires", now, future=True
        )
    except ToolError as error:
        fail(error.message, "write a span such as 90d, a moment such as 2027-01-31T00:00:00Z, or never")
    if when <= now:
        fail(f"--expires: {given!r} is over already", "name a moment to come")
    return int(when.timestamp())
