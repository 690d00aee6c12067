"""Puts the sign-in together from the settings."""

from typing import TYPE_CHECKING

from nats.aio.client import Client

from opsbus_edge import keyfiles
from opsbus_edge.metrics import Metrics
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.sign_in.endpoint import SignIn
from opsbus_edge.sign_in.throttle import Throttle
from opsbus_edge.sign_in.tokens import SessionTokens

if TYPE_CHECKING:
    from opsbus_edge.sign_in.directory import Directory


def session_tokens(settings: EdgeSettings) -> SessionTokens | None:
    """The tokens of a password; None: this edge neither gives nor takes them.

    Raises:
        SettingsError: the key cannot be used.
    """
    if settings.token_key_file is None:
        return None
    return SessionTokens(keyfiles.signer(settings.token_key_file, "token_key_file"), settings.token_lifetime_s)


def directory(settings: EdgeSettings) -> "Directory | None":
    """The directory; None: there is none.

    Raises:
        SettingsError: a file or DN that the settings name cannot be used.
    """
    if not settings.ldap_url:
        return None
    from opsbus_edge.sign_in.directory import (
        Directory,  # ldap3 costs a quarter of a second that most edges need not pay
    )

    return Directory(settings)


def sign_in(
    settings: EdgeSettings, asked: "Directory | None", tokens: SessionTokens | None, nc: Client, metrics: Metrics
) -> SignIn | None:
    """The endpoint; None without a directory."""
    if asked is None or tokens is None:
        return None
    throttle = Throttle(
        settings.sign_in_failures_per_user, settings.sign_in_failures_per_source, settings.sign_in_window_s
    )
    return SignIn(asked, tokens, throttle, nc, metrics, names=settings.audit_personal == "clear")
