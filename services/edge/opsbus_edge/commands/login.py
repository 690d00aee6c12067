"""``opsbus login``: a directory's password for a token of an edge, which ``opsbus call`` then uses."""

import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    import httpx2

app = typer.Typer(pretty_exceptions_enable=False)

TIMEOUT_S = 60.0


@app.command()
def login(
    edge: Annotated[str, typer.Option(envvar="OPSBUS_URL", help="The edge: https://ops.shop.example.")],
    user: Annotated[str, typer.Option(help="As the directory knows you.", prompt=True)],
    ca: Annotated[
        Path | None, typer.Option(envvar="OPSBUS_CA", help="Certificates to trust, PEM; the system's unless given.")
    ] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input; for programs.")
    ] = False,
) -> None:
    """Sign in at an edge with your directory password. It is sent to the edge and kept nowhere."""
    from opsbus import logins
    from opsbus.commands.output import fail

    url = logins.normal(edge)
    if not _is_safe(url):
        fail(f"a password would cross the network in the clear to {url or 'nowhere'}", "name the edge with https://", 2)
    trusted = ca.resolve() if ca is not None else None
    password = typer.get_text_stream("stdin").readline().rstrip("\r\n") if password_stdin else _ask()
    if not password:
        fail("there is no password", code=2)
    answer = _post(url, user, password, trusted)
    given = answer.json() if answer.status_code == 200 else None
    if not isinstance(given, dict):
        _explain(answer, url)
    ends = int(time.time() + given["expires_in"])
    signed_in = logins.Login(
        url=url, token=given["access_token"], expires=ends, sub=given["sub"], ca=str(trusted or "")
    )
    try:
        path = logins.save(signed_in)
    except OSError as error:
        fail(f"{logins.file()} cannot be written: {error.strerror or error}", "the token was thrown away")
    minutes = round(given["expires_in"] / 60)
    typer.echo(f"signed in at {url} as {given['sub']} ({', '.join(given['roles'])}) for {minutes} minutes")
    typer.echo(f"the token is in {path}; 'opsbus call --url {url}' uses it", err=True)


def _ask() -> str:
    import getpass

    try:
        return getpass.getpass("Password: ")
    except (EOFError, KeyboardInterrupt):
        raise typer.Exit(130) from None


def _is_safe(url: str) -> bool:
    """TLS, or this machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _post(url: str, user: str, password: str, ca: Path | None) -> "httpx2.Response":
    import httpx2

    from opsbus.commands.output import fail
    from opsbus_edge.commands.client import UNREACHABLE, trusting, why_unreachable

    try:
        with httpx2.Client(verify=trusting(str(ca or "")), timeout=TIMEOUT_S) as http:
            return http.post(f"{url}/auth/token", json={"user": user, "password": password})
    except httpx2.HTTPError as error:
        fail(*why_unreachable(error, url), UNREACHABLE)
    except OSError as error:
        fail(f"--ca: {ca} holds no certificates ({error.strerror or error})", "name a PEM file", 2)


def _explain(answer: "httpx2.Response", url: str) -> NoReturn:
    from opsbus.commands.output import fail
    from opsbus_edge.commands.client import NOT_ALLOWED

    try:
        error = answer.json()["error"]
        message, hint = str(error["message"]), str(error.get("hint") or "")
    except (ValueError, LookupError, TypeError):
        fail(f"{url} answers {answer.status_code}", "is it an edge?")
    if answer.status_code == 404:
        fail(f"{url} takes no passwords", "its settings name no directory (ldap_url); use a token or an API key")
    fail(message, hint, NOT_ALLOWED if answer.status_code in (401, 403) else 1)


logout_app = typer.Typer(pretty_exceptions_enable=False)


@logout_app.command()
def logout(
    edge: Annotated[str, typer.Option(envvar="OPSBUS_URL", help="The edge.")],
) -> None:
    """Forget the token of an edge. It stays good until it expires; whoever has copied it may use it."""
    from opsbus import logins
    from opsbus.commands.output import fail

    try:
        gone = logins.forget(edge)
    except OSError as error:
        fail(f"{logins.file()} cannot be written: {error.strerror or error}")
    typer.echo(f"signed out of {logins.normal(edge)}" if gone else f"not signed in at {logins.normal(edge)}")
