"""Tokens that must not open anything: expired, tampered, meant for others, of the wrong make, in the wrong place."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from attacks.model import ADMIN, Attack, mcp, rest
from attacks.world import World


def b64(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def good(**claims: Any) -> Callable[[World], str]:
    """Signed as it should be; the claims are wrong."""
    return lambda world: f"Bearer {world.token('admin', **claims)}"


def hand_made(header: dict[str, Any], key: Callable[[World], bytes] | None, **claims: Any) -> Callable[[World], str]:
    """A token that no library would make: any header, HMAC by any bytes, or no signature."""

    def build(world: World) -> str:
        now = int(time.time())
        body = {
            "iss": "opsbus",
            "aud": "opsbus",
            "sub": "eve",
            "roles": ["admin"],
            "iat": now,
            "exp": now + 600,
        } | claims
        text = f"{b64(header)}.{b64({name: value for name, value in body.items() if value is not None})}"
        signature = b"" if key is None else hmac.new(key(world), text.encode(), hashlib.sha256).digest()
        return f"Bearer {text}.{b64(signature) if signature else ''}"

    return build


def by(algorithm: str, key: Callable[[World], Any], header: dict[str, Any] | None = None) -> Callable[[World], str]:
    return lambda world: f"Bearer {world.signed(key(world), algorithm, header=header)}"


def changed(part: int, change: Callable[[str], str]) -> Callable[[World], str]:
    """A good token with one of its parts changed."""

    def build(world: World) -> str:
        parts = world.token("viewer").split(".")
        parts[part] = change(parts[part])
        return "Bearer " + ".".join(parts)

    return build


def public_pem(world: World) -> bytes:
    return world.platform.public().public_key_pem.encode()


def raised(payload: str) -> str:
    """The payload with another role."""
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return b64(claims | {"roles": ["admin"]})


def token_of(build: Callable[[World], str]) -> Callable[[World], str]:
    return lambda world: build(world).removeprefix("Bearer ")


def in_body(world: World) -> str:
    return json.dumps({"arguments": {}, "access_token": world.token("admin")})


HOUR = 3600
OWN_JWK = {"kty": "oct", "k": b64(b"mine" * 8)}


def mine(_: World) -> bytes:
    return b"mine" * 8


REFUSED: list[tuple[str, Any]] = [
    ("nothing at all", None),
    ("expired", good(iat=1_700_000_000, exp=1_700_000_600)),
    ("expired an hour ago", lambda w: f"Bearer {w.token(exp=int(time.time()) - HOUR)}"),
    ("not valid before tomorrow", lambda w: f"Bearer {w.token(nbf=int(time.time()) + 24 * HOUR)}"),
    ("issued tomorrow", lambda w: f"Bearer {w.token(iat=int(time.time()) + 24 * HOUR)}"),
    ("for another audience", good(aud="other")),
    ("for a longer audience", good(aud="opsbus.evil.example")),
    ("for a list of other audiences", good(aud=["one", "two"])),
    ("for the audience in another case", good(aud="OPSBUS")),
    ("for no audience", good(aud=None)),
    ("of another issuer", good(iss="evil")),
    ("of an issuer with a slash more", good(iss="opsbus/")),
    ("of no issuer", good(iss=None)),
    ("without expiry", good(exp=None)),
    ("without sub", hand_made({"alg": "HS256"}, lambda w: w.secret.encode(), sub=None)),
    ("with an empty sub", hand_made({"alg": "HS256"}, lambda w: w.secret.encode(), sub="")),
    ("with a number as sub", hand_made({"alg": "HS256"}, lambda w: w.secret.encode(), sub=7)),
    ("with a line break in sub", hand_made({"alg": "HS256"}, lambda w: w.secret.encode(), sub="eve\nactor: admin")),
    ("with a sub of 300 characters", hand_made({"alg": "HS256"}, lambda w: w.secret.encode(), sub="e" * 300)),
    ("with a zero byte in sub", hand_made({"alg": "HS256"}, lambda w: w.secret.encode(), sub="admin\x00eve")),
    ("with roles as text", good(roles="admin")),
    ("with roles as an object", good(roles={"admin": True})),
    ("with a number among the roles", good(roles=["viewer", 1])),
    ("with a hundred roles", good(roles=[f"role{n}" for n in range(100)])),
    ("with text as expiry", good(exp="tomorrow")),
    ("with an endless expiry", hand_made({"alg": "HS256"}, lambda w: w.secret.encode(), exp=float("inf"))),
    ("with a negative expiry", good(exp=-1)),
    ("unsigned, alg none", hand_made({"alg": "none", "typ": "JWT"}, None)),
    ("unsigned, alg None", hand_made({"alg": "None"}, None)),
    ("unsigned, alg NONE", hand_made({"alg": "NONE"}, None)),
    ("unsigned, alg nOnE", hand_made({"alg": "nOnE"}, None)),
    ("unsigned, alg empty", hand_made({"alg": ""}, None)),
    ("unsigned, no alg", hand_made({"typ": "JWT"}, None)),
    ("unsigned, alg null", hand_made({"alg": None}, None)),
    ("unsigned, alg a list", hand_made({"alg": ["HS256", "none"]}, None)),
    ("unsigned, alg HS256", hand_made({"alg": "HS256"}, None)),
    ("HMAC by the public key's PEM", hand_made({"alg": "HS256"}, public_pem)),
    ("HMAC by the public key's PEM, no last line break", hand_made({"alg": "HS256"}, lambda w: public_pem(w).strip())),
    ("HMAC that calls itself EdDSA", hand_made({"alg": "EdDSA"}, lambda w: w.secret.encode())),
    ("HMAC by an empty key", hand_made({"alg": "HS256"}, lambda _: b"")),
    ("HMAC by a guess", hand_made({"alg": "HS256"}, lambda _: b"secret")),
    ("HS384 by the right secret", by("HS384", lambda w: w.secret)),
    ("HS512 by the right secret", by("HS512", lambda w: w.secret)),
    ("RS256 by a key of its own", by("RS256", lambda w: w.rsa)),
    ("PS256 by a key of its own", by("PS256", lambda w: w.rsa)),
    ("ES256 by a key of its own", by("ES256", lambda w: w.ec)),
    ("EdDSA by a key of its own", by("EdDSA", lambda w: type(w.platform).generate().private_key)),
    ("EdDSA by the key that signs identities", by("EdDSA", lambda w: w.bus.signer.private_key)),
    ("kid that leaves the folder", hand_made({"alg": "HS256", "kid": "../../../../dev/null"}, lambda _: b"")),
    ("kid that is a query", hand_made({"alg": "HS256", "kid": "x' UNION SELECT 'key"}, lambda _: b"key")),
    ("kid that is a command", hand_made({"alg": "HS256", "kid": "|touch /tmp/x"}, mine)),
    ("kid that is an object", hand_made({"alg": "HS256", "kid": {"$ne": ""}}, mine)),
    ("key in its own header", hand_made({"alg": "HS256", "jwk": OWN_JWK}, mine)),
    ("key at an address in its header", hand_made({"alg": "HS256", "jku": "http://127.0.0.1:9/jwks"}, mine)),
    ("certificate at an address in its header", hand_made({"alg": "HS256", "x5u": "http://127.0.0.1:9/x"}, mine)),
    (
        "critical header nobody knows",
        hand_made({"alg": "HS256", "crit": ["exp2"], "exp2": 1}, lambda w: w.secret.encode()),
    ),
    ("detached payload", hand_made({"alg": "HS256", "b64": False, "crit": ["b64"]}, mine)),
    ("payload changed", changed(1, raised)),
    ("payload cut", changed(1, lambda part: part[:-4])),
    ("payload that is a list", changed(1, lambda _: b64(["admin"]))),
    ("signature changed", changed(2, lambda part: ("A" if part[0] != "A" else "B") + part[1:])),
    ("signature cut", changed(2, lambda part: part[:20])),
    ("signature gone", changed(2, lambda _: "")),
    ("header changed", changed(0, lambda _: b64({"alg": "HS256", "typ": "JWT"}))),
    ("header that is a number", changed(0, lambda _: b64(1))),
    ("two parts", lambda w: "Bearer " + w.token().rsplit(".", 1)[0]),
    ("four parts", lambda w: "Bearer " + w.token() + ".x"),
    ("five parts, as encrypted ones have", lambda w: "Bearer " + w.token() + ".x.y"),
    ("garbage", "Bearer garbage"),
    ("dots", "Bearer .."),
    ("ten thousand characters", "Bearer " + "a." * 5_000),
    ("letters that are no base64", "Bearer ä.ö.ü"),
    ("blank inside", lambda w: "Bearer " + w.token().replace(".", " .", 1)),
    ("two tokens with a comma", lambda w: f"Bearer {w.token('viewer')}, Bearer {w.token('admin')}"),
    ("in quotes", lambda w: f'Bearer "{w.token()}"'),
    ("scheme without token", "Bearer"),
    ("scheme Basic", "Basic " + base64.b64encode(b"admin:admin").decode()),
    ("scheme Negotiate", "Negotiate abc"),
    ("token without scheme", token_of(ADMIN)),
    ("API key that nobody gave", "Bearer obk_0123456789ab_" + "a" * 43),
    ("API key without its secret", "Bearer obk_0123456789ab_"),
    ("API key that leaves its bucket", "Bearer obk_../KEYS.identity_" + "a" * 43),
]

ATTACKS = [
    *(Attack(f"REST, token: {name}", rest(auth=auth), 401, "unauthenticated") for name, auth in REFUSED),
    *(
        Attack(f"MCP, token: {name}", mcp(auth=auth), 401, "unauthenticated")
        for name, auth in REFUSED
        if name
        in {
            "nothing at all",
            "expired",
            "for another audience",
            "of another issuer",
            "unsigned, alg none",
            "HMAC by the public key's PEM",
            "payload changed",
            "signature gone",
            "key in its own header",
        }
    ),
    Attack(
        "token in the query",
        rest(path=lambda w: f"/api/v1/tools/demo_echo/execute?access_token={w.token()}", auth=None),
        401,
        "unauthenticated",
    ),
    Attack(
        "token in the query of /mcp",
        lambda w: mcp(auth=None)(w).replace(b"POST /mcp", f"POST /mcp?token={w.token()}".encode(), 1),
        401,
        "unauthenticated",
    ),
    Attack("token in the body", rest(body=in_body, auth=None), 401, "unauthenticated"),
    Attack(
        "token in a cookie", rest(auth=None, headers={"Cookie": lambda w: f"token={w.token()}"}), 401, "unauthenticated"
    ),
    Attack("two Authorization headers", rest(more=[("Authorization", "Bearer x")]), 400, says="authorization"),
    Attack("two X-Api-Key headers", rest(more=[("X-Api-Key", "a"), ("X-Api-Key", "b")]), 400, says="x-api-key"),
    Attack("proxy's authorization", rest(auth=None, headers={"Proxy-Authorization": ADMIN}), 401, "unauthenticated"),
    Attack(
        "roles in headers", rest(auth=None, more=[("X-Roles", "admin"), ("X-User", "admin")]), 401, "unauthenticated"
    ),
    Attack("identity header of the bus", rest(auth=None, more=[("Opsbus-Identity", "x")]), 401, "unauthenticated"),
    Attack("certificate in a header", rest(auth=None, more=[("X-Client-Cert", "MII")]), 401, "unauthenticated"),
]
