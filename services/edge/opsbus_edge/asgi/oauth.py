"""What an OAuth client is told: the metadata of this resource (RFC 9728), and in a challenge what is missing."""

from typing import Any

import orjson

from opsbus.permission import fits
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.catalog import Catalog
from opsbus_edge.model import Caller, Denied, error_body
from opsbus_edge.settings.oauth import OAuthSettings

WELL_KNOWN = "/.well-known/oauth-protected-resource"


def metadata(settings: OAuthSettings) -> bytes:
    """The document."""
    document: dict[str, Any] = {
        "resource": settings.oauth_resource,
        "authorization_servers": settings.oauth_authorization_servers or [settings.oauth_issuer],
        "bearer_methods_supported": ["header"],
        "resource_name": "opsbus",
    }
    if settings.oauth_scopes:
        document["scopes_supported"] = sorted(settings.oauth_scopes)
    return orjson.dumps(document)


def challenged(denied: Denied, settings: OAuthSettings) -> tuple[tuple[str, str], ...]:
    """The headers of a refused sign-in, with where the metadata is."""
    more = f', resource_metadata="{settings.oauth_metadata_url}"'
    if settings.oauth_scopes:
        more += f', scope="{" ".join(sorted(settings.oauth_scopes))}"'
    return tuple((name, value + more if name == "www-authenticate" else value) for name, value in denied.headers)


def step_up(
    settings: OAuthSettings, catalog: Catalog, caller: Caller, method: str, target: object
) -> tuple[ErrorBody, tuple[tuple[str, str], ...]] | None:
    """The refusal of a call whose roles permit it and whose token's scopes do not; None: it may go on.

    Args:
        method: MCP method.
        target: Name of the tool or prompt, URI of the resource.
    """
    if caller.scopes is None or not isinstance(target, str):
        return None
    found = {"tools/call": catalog.tool, "prompts/get": catalog.prompt, "resources/read": catalog.resource}.get(method)
    entry = found(target) if found is not None else None
    if entry is None or fits(caller.scopes, entry.spec.permission) or not caller.sees(entry.spec.permission):
        return None
    scope = scope_for(settings, entry.spec.permission)
    challenge = (
        f'Bearer realm="opsbus", error="insufficient_scope", error_description="the token lacks a scope",'
        f' scope="{scope}", resource_metadata="{settings.oauth_metadata_url}"'
    )
    return insufficient(scope), (("www-authenticate", challenge),)


def scope_for(settings: OAuthSettings, permission: str) -> str:
    """The scope to ask for."""
    fitting = [scope for scope, globs in settings.oauth_scopes.items() if fits(globs, permission)]
    return fitting[0] if fitting else permission


def insufficient(scope: str) -> ErrorBody:
    """The error of a token without a scope."""
    return error_body(
        ErrorCode.FORBIDDEN,
        f"the token lacks the scope {scope!r}",
        hint="Ask the authorization server for a token with it.",
        details={"scope": scope},
    )
