"""A company's identity provider: its tokens, keys and absence; the SDK's own OAuth client from discovery to step-up."""

import asyncio
import importlib.util
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from mcp.client.auth import OAuthClientProvider
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import ValidationError

from opsbus import Context, Worker
from opsbus.nats_server import free_port
from opsbus.testing.plugin import RunWorker
from opsbus_edge.gates import jwks
from opsbus_edge.settings import EdgeSettings

_spec = importlib.util.spec_from_file_location("identity_provider", Path(__file__).parent / "identity_provider.py")
assert _spec is not None
assert _spec.loader is not None
identity_provider = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(identity_provider)

SCOPES = {"demo.read": ["demo:read"], "demo.write": ["demo:write"]}


@pytest.fixture
async def provider() -> AsyncIterator[Any]:
    made = identity_provider.Provider()
    await made.start()
    yield made
    await made.stop()


def settings(provider: Any, **more: Any) -> dict[str, Any]:
    return {
        "oauth_issuer": provider.issuer,
        "oauth_jwks_url": provider.jwks_url,
        "oauth_resource": "https://ops.shop.example/mcp",
        "oauth_roles": {"sre": ["admin"], "desk": ["viewer"]},
    } | more


def demo(seen: list[dict[str, str]] | None = None) -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def look(ctx: Context[None]) -> dict[str, str]:
        if seen is not None:
            seen.append(dict(ctx._call.headers))
        return {"sub": ctx.identity.sub, "auth": ctx.identity.auth, "may": ",".join(ctx.identity.permissions)}

    @worker.tool(permission="demo:write", name="change")
    async def change(ctx: Context[None]) -> str:
        return "changed"

    return worker


async def status(running: Any, token: str) -> tuple[int, str]:
    answer = await running.http.get("/api/v1/tools", headers={"authorization": f"Bearer {token}"})
    return answer.status_code, answer.text


async def call(running: Any, token: str, tool: str = "demo_look", **options: Any) -> Any:
    return await running.call(tool, role=None, headers={"authorization": f"Bearer {token}"}, **options)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_token_of_each_kind_is_taken_and_stays_at_the_edge(
    provider: Any, run_edge: Any, run_worker: RunWorker, audit_events: Any, algorithm: str
) -> None:
    provider.add("key", algorithm)
    seen: list[dict[str, str]] = []
    given = settings(provider)
    async with run_edge(**given) as running, run_worker(demo(seen)):
        await running.knows("demo_look")
        token = provider.token(given["oauth_resource"], "key")
        result = (await call(running, token)).result["structuredContent"]
        assert (result["sub"], result["auth"]) == ("mara@shop.example", "oauth")
    assert token not in json.dumps(seen)
    assert token.encode() not in b"".join(event["raw"] for event in await audit_events(2))


def hs256_with_public_key(provider: Any, audience: str) -> str:
    public = provider.keys["rs"][1].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    now = int(time.time())
    body = {"iss": provider.issuer, "aud": audience, "sub": "root", "exp": now + 60}
    head = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "kid": "rs"}).encode())
    payload = jwt.utils.base64url_encode(json.dumps(body).encode())
    import hashlib
    import hmac

    signature = jwt.utils.base64url_encode(hmac.new(pem, head + b"." + payload, hashlib.sha256).digest())
    return b".".join([head, payload, signature]).decode()


def forged(provider: Any, audience: str) -> dict[str, str]:
    now = int(time.time())
    good = provider.token(audience)
    head, body, signature = good.split(".")
    stranger = identity_provider.Provider()
    stranger._port = provider._port
    provider.add("weak", "RS256", 1024)
    provider.add("ec", "ES256")
    unsigned = jwt.encode(
        {"iss": provider.issuer, "aud": audience, "sub": "root", "exp": now + 60}, None, "none", headers={"kid": "rs"}
    )
    other = jwt.utils.base64url_encode(
        json.dumps({"iss": provider.issuer, "aud": audience, "sub": "root", "exp": now + 60}).encode()
    ).decode()
    return {
        "expired": provider.token(audience, exp=now - 60),
        "not valid yet": provider.token(audience, nbf=now + 60),
        "for another resource": provider.token("http://127.0.0.1/other"),
        "for no resource": provider.token(audience, aud=None),
        "without an expiry": provider.token(audience, exp=None),
        "without a subject": provider.token(audience, sub=None),
        "an odd subject": provider.token(audience, sub="a\u0000b"),
        "payload exchanged": f"{head}.{other}.{signature}",
        "signature cut": f"{head}.{body}.",
        "a stranger's key under the same id": stranger.token(audience),
        "no algorithm": unsigned,
        "the public key as a secret": hs256_with_public_key(provider, audience),
        "an unknown id": provider.token(audience, header={"kid": "nobody"}),
        "no id": provider.token(audience, header={"kid": None}),
        "a key that is too short": provider.token(audience, "weak"),
        "another key's id": provider.token(audience, "ec", header={"kid": "rs"}),
        "critical headers": provider.token(audience, header={"crit": ["b64"], "b64": True}),
        "another issuer": provider.token(audience, iss="http://elsewhere.example"),
        "too many groups": provider.token(audience, groups=[f"g{n}" for n in range(1_001)]),
        "an algorithm that is not accepted": provider.token(audience, algorithm="RS512"),
    }


async def test_every_forgery_is_refused_with_a_hint_and_where_to_go(provider: Any, run_edge: Any) -> None:
    given = settings(provider, oauth_scopes=SCOPES)
    async with run_edge(**given) as running:
        assert (await status(running, provider.token(given["oauth_resource"])))[0] == 200
        for name, token in forged(provider, given["oauth_resource"]).items():
            answer = await running.http.get("/api/v1/tools", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == 401, name
            assert answer.json()["error"]["hint"], name
            challenge = answer.headers["www-authenticate"]
            assert f'resource_metadata="{given["oauth_resource"].replace("/mcp", "")}/.well-known/' in challenge, name
            assert 'scope="demo.read demo.write"' in challenge
        assert (await running.http.get("/api/v1/tools")).status_code == 401


async def test_claims_become_roles(provider: Any, run_edge: Any) -> None:
    given = settings(provider, oauth_role_claims=["groups", "realm_access.roles", "https://shop.example/roles"])
    async with run_edge(**given) as running:

        async def roles(**claims: Any) -> tuple[str, ...]:
            token = provider.token(given["oauth_resource"], **claims)
            caller = await running.edge.authenticate({"authorization": f"Bearer {token}"})
            return caller.roles

        assert await roles(groups=["sre", "unknown"]) == ("admin",)
        assert await roles(groups="desk") == ("viewer",)
        assert await roles(groups=None, realm_access={"roles": ["sre", "desk"]}) == ("admin", "viewer")
        assert await roles(groups=None, **{"https://shop.example/roles": ["desk"]}) == ("viewer",)
        assert await roles(groups={"sre": True}) == ()
        assert await roles(groups=["Sre"]) == ()


async def test_keys_survive_the_providers_absence_and_new_ones_are_found(
    provider: Any, run_edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FLOOR_S", 0.2)
    given = settings(provider)
    audience = given["oauth_resource"]
    async with run_edge(**given) as running:
        provider.add("next", "ES256")
        await asyncio.sleep(0.25)
        assert (await status(running, provider.token(audience, "next")))[0] == 200, "an unknown key is looked for"
        monkeypatch.setattr(jwks, "FLOOR_S", 600)
        asked = provider.asked
        for number in range(50):
            await status(running, provider.token(audience, header={"kid": f"made-up-{number}"}))
        assert provider.asked == asked, "made-up ids are no flood at the provider"
        monkeypatch.setattr(jwks, "FLOOR_S", 0.2)
        await provider.stop()
        assert (await status(running, provider.token(audience, sub="new@shop.example")))[0] == 200
        provider.add("after", "RS256")
        await asyncio.sleep(0.25)
        code, text = await status(running, provider.token(audience, "after"))
        assert code == 503
        assert "identity provider" in text
        await provider.start()
        async with asyncio.timeout(30):
            while (await status(running, provider.token(audience, "after")))[0] != 200:
                await asyncio.sleep(0.1)


async def test_an_edge_starts_while_the_provider_is_away_and_old_keys_end(
    provider: Any, run_edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FLOOR_S", 0.1)
    await provider.stop()
    given = settings(provider)
    token = provider.token(given["oauth_resource"])
    async with run_edge(**given) as running:
        assert (await status(running, token))[0] == 503
        await provider.start()
        async with asyncio.timeout(30):
            while (await status(running, token))[0] != 200:
                await asyncio.sleep(0.1)
        provider_keys = running.edge.authenticator._proofs[1]._keys
        provider_keys._fetched_at -= 10 * 86_400
        await provider.stop()
        assert (await status(running, provider.token(given["oauth_resource"], sub="other")))[0] == 503


@pytest.mark.parametrize(
    "wrong",
    [
        {"oauth_issuer": "https://id.example"},
        {"oauth_issuer": "https://id.example", "oauth_jwks_url": "http://id.example/jwks", "oauth_resource": "https://e/mcp"},
        {"oauth_issuer": "https://id.example", "oauth_jwks_url": "https://id.example/jwks", "oauth_resource": "http://e/mcp"},
        {"oauth_algorithms": ["HS256"]},
        {"oauth_algorithms": ["none"]},
        {"oauth_role_claims": ["a..b"]},
    ],
)  # fmt: skip
def test_wrong_settings_stop_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EdgeSettings(**wrong)


async def test_the_metadata_of_the_resource(provider: Any, run_edge: Any) -> None:
    given = settings(provider, oauth_scopes=SCOPES)
    async with run_edge(**given) as running:
        for path in ("/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"):
            document = (await running.http.get(path)).json()
            assert document["resource"] == given["oauth_resource"]
            assert document["authorization_servers"] == [provider.issuer]
            assert document["scopes_supported"] == ["demo.read", "demo.write"]
            assert document["bearer_methods_supported"] == ["header"]
    async with run_edge() as running:
        assert (await running.http.get("/.well-known/oauth-protected-resource")).status_code == 404


async def test_scopes_narrow_what_roles_permit(
    provider: Any, run_edge: Any, run_worker: RunWorker, audit_events: Any
) -> None:
    given = settings(provider, oauth_scopes=SCOPES, oauth_scopes_required=True)
    async with run_edge(**given) as running, run_worker(demo()):
        await running.knows("demo_look", "demo_change")
        reads = provider.token(given["oauth_resource"], scope="openid demo.read")
        assert (await call(running, reads)).result["structuredContent"]["may"] == "demo:read", (
            "nor may the worker do more"
        )
        refused = await call(running, reads, "demo_change")
        assert refused.status == 403
        challenge = refused.headers["www-authenticate"]
        assert 'error="insufficient_scope"' in challenge
        assert 'scope="demo.write"' in challenge
        assert "resource_metadata=" in challenge
        headers = {"authorization": f"Bearer {reads}"}
        rest = await running.http.post("/api/v1/tools/demo_change/execute", json={}, headers=headers)
        assert rest.status_code == 403
        assert 'scope="demo.write"' in rest.headers["www-authenticate"]
        nothing = provider.token(given["oauth_resource"])
        assert (await call(running, nothing)).status == 403, "a token without scopes may nothing"
        viewer = provider.token(given["oauth_resource"], groups=["desk"], scope="demo.read demo.write")
        assert (await call(running, viewer, "demo_change")).error["data"]["code"] == "forbidden", "nor do scopes widen"
        both = provider.token(given["oauth_resource"], scp=["demo.read", "demo.write"])
        assert (await call(running, both, "demo_change")).result
    denied = [event for event in await audit_events() if event["stage"] == "denied"]
    assert len(denied) == 4


class Storage:
    """Tokens of the SDK's client, in memory."""

    def __init__(self) -> None:
        self.tokens: OAuthToken | None = None
        self.client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


def sdk_client(resource: str, storage: Storage, visits: list[str]) -> OAuthClientProvider:
    """The SDK's OAuth client; its browser is a request that follows no redirect."""
    from mcp.client.auth.oauth2 import AuthorizationCodeResult

    back: dict[str, list[str]] = {}

    async def visit(url: str) -> None:
        visits.append(url)
        async with httpx2.AsyncClient() as browser:
            answer = await browser.get(url, follow_redirects=False)
        back.clear()
        back.update(parse_qs(urlsplit(answer.headers["location"]).query))

    async def came_back() -> AuthorizationCodeResult:
        return AuthorizationCodeResult(code=back["code"][0], state=back["state"][0], iss=back["iss"][0])

    metadata = OAuthClientMetadata(client_name="test", redirect_uris=["http://127.0.0.1:1/callback"])  # type: ignore[list-item]
    return OAuthClientProvider(resource, metadata, storage, visit, came_back)


async def test_the_sdks_own_client_from_discovery_to_step_up_and_a_second_edge(
    provider: Any, run_edge: Any, run_worker: RunWorker
) -> None:
    port = free_port()  # the SDK's client wants a resource that is where it asks
    given = settings(
        provider,
        http_port=port,
        oauth_resource=f"http://127.0.0.1:{port}/mcp",
        oauth_scopes={"demo.read": ["demo:read"]},
        oauth_scopes_required=True,
    )
    second = given | {"http_port": 0}
    storage, visits = Storage(), list[str]()
    async with run_edge(**given) as running, run_edge(**second) as other, run_worker(demo()):
        await running.knows("demo_look", "demo_change")
        await other.knows("demo_look")
        auth = sdk_client(given["oauth_resource"], storage, visits)

        async def send(tool: str) -> httpx2.Response:
            body = {
                "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": tool, "arguments": {}, "_meta": META},
            }  # fmt: skip
            headers = running.headers("tools/call", tool, None)
            async with httpx2.AsyncClient(auth=auth, timeout=30) as client:
                return await client.post(f"{running.url}/mcp", json=body, headers=headers)

        first = await send("demo_look")
        assert first.json()["result"]["structuredContent"]["sub"] == "mara@shop.example"
        assert provider.resources == [given["oauth_resource"]], (
            "the client asked for a token for this resource (RFC 8707)"
        )
        assert len(visits) == 1
        stepped = await send("demo_change")
        assert stepped.status_code == 200, stepped.text
        assert stepped.json()["result"]
        assert len(visits) == 2, "one more visit, for the scope that was missing"
        assert "demo%3Awrite" in visits[1] or "demo:write" in visits[1]
        assert storage.tokens is not None
        assert (await call(other, storage.tokens.access_token)).result, "any edge of the resource takes the token"


META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
}
