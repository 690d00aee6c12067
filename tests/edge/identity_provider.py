"""A small authorization server: metadata, registration, authorization code with PKCE, refresh, JWKS.

For tests: it lets in whoever comes, as the user and with the groups that the test sets.
"""

import base64
import hashlib
import json
import secrets
import time
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa


class Provider:
    """The server; ``keys`` are those it signs with, by id."""

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Any]] = {}
        self.claims: dict[str, Any] = {"sub": "mara@shop.example", "groups": ["sre"]}
        self.asked = 0
        self.resources: list[str] = []
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh: dict[str, dict[str, str]] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0
        self.add("rs", "RS256")

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def jwks_url(self) -> str:
        return f"{self.issuer}/jwks"

    def add(self, kid: str, algorithm: str, bits: int = 2048) -> None:
        """A new key."""
        private: Any
        if algorithm == "RS256":
            private = rsa.generate_private_key(65537, bits)
        elif algorithm == "ES256":
            private = ec.generate_private_key(ec.SECP256R1())
        else:
            private = ed25519.Ed25519PrivateKey.generate()
        self.keys[kid] = (algorithm, private)

    def token(
        self, audience: str, kid: str = "rs", *, algorithm: str | None = None, header: Any = None, **claims: Any
    ) -> str:
        """An access token; a claim of None is left out."""
        name, private = self.keys[kid]
        now = int(time.time())
        body = {"iss": self.issuer, "aud": audience, "iat": now, "exp": now + 300} | self.claims | claims
        body = {key: value for key, value in body.items() if value is not None}
        return jwt.encode(body, private, algorithm or name, headers=_given({"kid": kid} | (header or {})))

    def jwks(self) -> dict[str, Any]:
        """The key set."""
        found = []
        for kid, (algorithm, private) in self.keys.items():
            made = jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key())
            found.append(json.loads(made) | {"kid": kid, "use": "sig", "alg": algorithm})
        return {"keys": found}

    async def start(self) -> None:
        """Serve; again on the same port when it was stopped."""
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_post("/register", self._register)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Be away."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _metadata(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "registration_endpoint": f"{self.issuer}/register",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "refresh_token"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _jwks(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response(self.jwks())

    async def _register(self, request: web.Request) -> web.Response:
        asked = await request.json()
        return web.json_response(
            asked | {"client_id": f"client-{secrets.token_hex(4)}", "token_endpoint_auth_method": "none"}, status=201
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self._codes[code] = query
        back = {"code": code, "state": query["state"], "iss": self.issuer}
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode(back)}")

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        if form["grant_type"] == "authorization_code":
            asked = self._codes.pop(form["code"])
            digest = hashlib.sha256(form["code_verifier"].encode()).digest()
            if base64.urlsafe_b64encode(digest).decode().rstrip("=") != asked["code_challenge"]:
                return web.json_response({"error": "invalid_grant"}, status=400)
        else:
            asked = self._refresh.pop(form["refresh_token"])
        self.resources.append(form.get("resource", ""))
        refresh = secrets.token_urlsafe(16)
        self._refresh[refresh] = asked
        scope = asked.get("scope", "")
        return web.json_response(
            {
                "access_token": self.token(form.get("resource", ""), scope=scope),
                "token_type": "Bearer",
                "expires_in": 300,
                "refresh_token": refresh,
                "scope": scope,
            }
        )


def _given(headers: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in headers.items() if value is not None}
