"""The first gate: what proves an identity and what does not. Nothing behind it is reached without."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from opsbus.identity import Signer
from opsbus.settings import SettingsError
from opsbus_edge.gates.bearer_jwt import BearerJwt, TrustedKey
from opsbus_edge.gates.proof import Proven
from opsbus_edge.settings import ANONYMOUS_IN_WORDS, EdgeSettings
from opsbus_edge.wiring import running_edge

PATHS = ["/api/v1/tools", "/api/v1/resources", "/api/v1/catalog/services", "/api/v1/nowhere"]


def claims(**more: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"iss": "opsbus", "aud": "opsbus", "sub": "ada", "roles": ["admin"], "iat": now, "exp": now + 60} | more
    return {key: value for key, value in found.items() if value is not None}


def unsigned(body: dict[str, Any], algorithm: str = "none") -> str:
    parts = [json.dumps({"alg": algorithm, "typ": "JWT"}), json.dumps(body)]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + "."


def _bad_tokens(keys: Any) -> dict[str, str]:
    good, secret = keys.platform.private_key, keys.secret
    public = keys.platform.public().public_key_pem
    stranger = Signer.generate().private_key
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    signed = jwt.encode(claims(), good, "EdDSA")
    head, body, signature = signed.split(".")
    admin = base64.urlsafe_b64encode(json.dumps(claims(sub="root")).encode()).decode().rstrip("=")
    return {
        "no token": "x",
        "three dots": "a.b.c",
        "alg none": unsigned(claims()),
        "alg None": unsigned(claims(), "None"),
        "strange key": jwt.encode(claims(), stranger, "EdDSA"),
        "RS256": jwt.encode(claims(), pem, "RS256"),
        "HS256 with the public key as secret": _confused(public),
        "HS256 with another secret": jwt.encode(claims(), "x" * 64, "HS256"),
        "HS512 with the right secret": jwt.encode(claims(), secret, "HS512"),
        "expired": jwt.encode(claims(exp=int(time.time()) - 60), good, "EdDSA"),
        "not yet valid": jwt.encode(claims(nbf=int(time.time()) + 60), good, "EdDSA"),
        "no expiry": jwt.encode(claims(exp=None), good, "EdDSA"),
        "another audience": jwt.encode(claims(aud="elsewhere"), good, "EdDSA"),
        "no audience": jwt.encode(claims(aud=None), good, "EdDSA"),
        "another issuer": jwt.encode(claims(iss="elsewhere"), good, "EdDSA"),
        "no subject": jwt.encode(claims(sub=None), good, "EdDSA"),
        "empty subject": jwt.encode(claims(sub=""), good, "EdDSA"),
        "subject of two lines": jwt.encode(claims(sub="a\nb"), good, "EdDSA"),
        "roles no list": jwt.encode(claims(roles="admin"), good, "EdDSA"),
        "roles of numbers": jwt.encode(claims(roles=[1]), good, "EdDSA"),
        "too many roles": jwt.encode(claims(roles=[f"r{n}" for n in range(100)]), good, "EdDSA"),
        "altered body": f"{head}.{admin}.{signature}",
        "altered signature": f"{head}.{body}.{signature[:-4]}AAAA",
        "too long": signed + "x" * 10_000,
    }


def _confused(public_pem: str) -> str:
    """PyJWT refuses to sign with a PEM; an attacker's library does not."""
    import hashlib
    import hmac

    body = unsigned(claims(), "HS256").rstrip(".")
    signature = hmac.new(public_pem.encode(), body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


async def test_only_valid_tokens_open_the_door(running) -> None:
    for kind, token in _bad_tokens(running.keys).items():
        headers = {"authorization": f"Bearer {token}"}
        rest = await running.rest("GET", "/api/v1/tools", role=None, headers=headers)
        assert rest.status_code == 401, kind
        assert rest.json()["error"]["code"] == "unauthenticated", kind
        assert rest.headers["www-authenticate"].startswith('Bearer realm="opsbus", error="invalid_token"'), kind
        mcp = await running.mcp("tools/list", role=None, headers=headers)
        assert mcp.status == 401, kind
    good = {"EdDSA": running.keys.platform.private_key, "HS256": running.keys.secret}
    for algorithm, key in good.items():
        token = jwt.encode(claims(), key, algorithm)
        answer = await running.rest("GET", "/api/v1/tools", role=None, headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200, algorithm


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_token_nothing_is_told(running, path: str) -> None:
    answer = await running.rest("GET", path, role=None)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="opsbus"'


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PUT"])
async def test_every_method_of_mcp_asks_for_a_token(running, method: str) -> None:
    answer = await running.http.request(method, "/mcp", headers={"mcp-session-id": "x"})
    assert answer.status_code == 401


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Token abc", "Bearer a b", "B\u00e4rer x".encode("latin-1")])
async def test_other_schemes_are_refused(running, value: Any) -> None:
    answer = await running.http.get("/api/v1/tools", headers={"authorization": value})
    assert answer.status_code == 401


async def test_two_authorization_headers_are_refused(running) -> None:
    token = running.keys.token()
    headers = [("authorization", f"Bearer {token}"), ("authorization", "Bearer x")]
    assert (await running.http.get("/api/v1/tools", headers=headers)).status_code == 400


async def test_probes_need_no_token(running) -> None:
    for path in ("/live", "/ready", "/health", "/metrics", "/docs", "/openapi.json"):
        assert (await running.http.get(path)).status_code == 200, path


async def test_a_role_the_policy_does_not_know_permits_nothing(running) -> None:
    answer = await running.rest("GET", "/api/v1/tools", role="conqueror")
    assert answer.json() == {"tools": [], "next_cursor": None}


async def test_anonymous_access_must_be_said_in_words(run_edge, keys, bus) -> None:
    for value in ("true", "yes", "1", "Yes, without authentication"):
        with pytest.raises(ValueError, match="without authentication"):
            EdgeSettings(**(keys.settings(bus) | {"allow_anonymous": value}))
    async with run_edge(allow_anonymous=ANONYMOUS_IN_WORDS) as running:
        assert (await running.rest("GET", "/api/v1/tools", role=None)).status_code == 200
        wrong = await running.rest("GET", "/api/v1/tools", role=None, headers={"authorization": "Bearer x"})
        assert wrong.status_code == 401, "a wrong token is not anonymous"
        platform = await running.rest("GET", "/api/v1/catalog/services", role=None)
        assert platform.status_code == 200  # the shipped viewer has *:read


async def test_a_verified_token_is_remembered_no_longer_than_it_lives() -> None:
    key = Signer.generate()
    proof = BearerJwt([TrustedKey("EdDSA", key.private_key.public_key())], "opsbus", "opsbus")
    exp = time.time() - 1
    token = jwt.encode(claims(exp=exp), key.private_key, "EdDSA")  # within the leeway of 5 s
    headers = {"authorization": f"Bearer {token}"}
    assert isinstance(await proof(headers), Proven)
    (until, _), *_ = proof._verified.values()
    assert until <= exp + 5


@pytest.mark.parametrize(
    ("setting", "content", "said"),
    [
        ("jwt_public_key_files", b"nonsense", "holds no public key in PEM"),
        ("jwt_secret_files", b"short", "holds 5 bytes"),
        ("identity_key_file", b"nonsense", "holds no unencrypted Ed25519 private key"),
        ("seal_key_file", b"short\n", "at least 32 characters"),
        ("policy_file", b"roles: [", "line 1"),
        ("policy_file", b"roles:\n  a:\n    alow: [x]\n", "line 3: 'alow' is unknown"),
    ],
)
async def test_a_wrong_file_stops_the_edge_with_one_line_that_names_it(
    keys, bus, tmp_path, setting: str, content: bytes, said: str
) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(content)
    value: Any = [path] if setting.endswith("files") else path
    with pytest.raises(SettingsError, match=setting) as caught:
        async with running_edge(EdgeSettings(**(keys.settings(bus) | {setting: value}))):
            pass
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_roles_that_settings_name_must_exist(keys, bus) -> None:
    with pytest.raises(SettingsError, match="stdio_roles"):
        async with running_edge(EdgeSettings(**(keys.settings(bus) | {"stdio_roles": ["emperor"]}))):
            pass
