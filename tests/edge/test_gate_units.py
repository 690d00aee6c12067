"""Policy, permissions, redaction, sealing, identities and JSON, each on its own."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsbus.identity import Signer
from opsbus.permission import deciding
from opsbus.settings import SettingsError
from opsbus_contracts.calls import ClientInfo
from opsbus_contracts.errors import CODES, ErrorCode
from opsbus_contracts.identity import Grant
from opsbus_edge import jsonin
from opsbus_edge.answers import LEGACY, MODERN, is_protocol_error, to_jsonrpc_error, to_tool_result
from opsbus_edge.asgi.guard import Guard
from opsbus_edge.asgi.rest import mcp_name_of
from opsbus_edge.dispatch.order import client_json
from opsbus_edge.gates.policy import load_policy, parse_policy
from opsbus_edge.identity import Minter
from opsbus_edge.model import Caller, Request, error_body
from opsbus_edge.seal import BadStateError, Sealer, binding_of


def permits(permissions: tuple[str, ...], needed: str) -> bool:
    return deciding(permissions, needed)[0]


POLICY = """\
roles:
  viewer:
    allow: ["*:get"]
  operator:
    inherits: [viewer]
    allow:
      - "k8s:*"
    deny:
      - "k8s:delete"
  admin:
    allow: ["*"]
"""


def test_roles_inherit_and_denials_win() -> None:
    policy = parse_policy(POLICY, "policy.yaml")
    operator = policy.grant(("operator",)).permissions
    assert permits(operator, "cmdb:get")
    assert permits(operator, "k8s:scale")
    assert not permits(operator, "k8s:delete")
    assert not permits(operator, "cmdb:update")
    both = policy.grant(("operator", "admin")).permissions
    assert permits(both, "cmdb:update")
    assert not permits(both, "k8s:delete"), "a denial wins over another role's allowance"
    assert policy.rule(("operator",), "k8s:*") == "policy.yaml:7 operator allow k8s:*"
    assert policy.rule(("operator",), "!k8s:delete") == "policy.yaml:9 operator deny k8s:delete"
    assert policy.rule(("operator",), "*:get") == "policy.yaml:3 viewer allow *:get"


def test_equal_permissions_have_equal_keys() -> None:
    policy = parse_policy(POLICY, "p")
    assert policy.grant(("admin",)).role_key == policy.grant(("admin", "unheard-of")).role_key
    assert policy.grant(("admin",)).role_key != policy.grant(("viewer",)).role_key
    assert policy.grant(()).permissions == ()


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "must be a mapping"),
        ("roles: {}", 1, "there are no roles"),
        ("rules: {}", 1, "'rules' is unknown"),
        ("roles:\n  a: 5", 2, "must be a mapping"),
        ("roles:\n  a:\n    allow: x", 3, "must be a list"),
        ("roles:\n  a:\n    allow:\n      - k8s:get\n      - [x]", 5, "permission like"),
        ("roles:\n  a:\n    allow: ['x y']", 3, "permission like"),
        ("roles:\n  a:\n    inherits: [b]", 3, "'b', which does not exist"),
        ("roles:\n  a:\n    inherits: [b]\n  b:\n    inherits: [a]", 3, "inherits itself"),
        ("roles:\n  a: {}\n  a: {}", 3, "stands there twice"),
        ("roles:\n  'a b': {}", 2, "is no name in roles"),
        ("roles:\n\t- x", 2, ""),
    ],
)
def test_a_wrong_policy_names_the_line(text: str, line: int, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_policy(text, "mine.yaml")
    assert f"mine.yaml line {line}:" in str(caught.value)
    assert said in str(caught.value)


def test_the_policy_shipped_lets_viewers_look_and_admins_do() -> None:
    policy = load_policy(None)
    viewer, admin = policy.grant(("viewer",)).permissions, policy.grant(("admin",)).permissions
    assert permits(viewer, "k8s:get")
    assert not permits(viewer, "k8s:scale")
    assert not permits(viewer, "audit:read")
    operator = policy.grant(("operator",)).permissions
    for permission in ("dashboards:write", "cmdb:write", "audit:read", "billing:read"):
        assert permits(operator, permission), permission
    assert not permits(operator, "billing:write")
    assert not permits(operator, "k8s:scale"), "anywhere; where it may: test_policy_scopes.py"
    assert permits(admin, "anything:at-all")


@given(st.text(max_size=20), st.text(max_size=20))
def test_globs_match_themselves_and_the_star_everything(needed: str, other: str) -> None:
    assert permits(("*",), needed)
    assert not permits((), needed)
    assert not permits(("*", "!*"), needed)
    if "*" not in other and other != needed and not other.startswith("!"):
        assert not permits((other,), needed)


ONLY_DEV = Grant(permission="cmdb:write", where={"namespace": ["dev"]})


def request(**more: Any) -> Request:
    fields: dict[str, Any] = {
        "method": "tools/call",
        "target": "k8s_scale",
        "params": b'{"a":1,"b":{"c":2,"d":3}}',
        "caller": Caller("ada", (), ("*",), "jwt", "k"),
        "client": ClientInfo(),
        "protocol": "2026-07-28",
        "transport": "http",
    }
    return Request(**(fields | more))


def test_a_sealed_state_opens_for_the_same_request_alone() -> None:
    sealer = Sealer([b"k" * 32])
    token = sealer.seal("the state", **binding_of(request()))
    assert "the state" not in token
    assert sealer.open(token, **binding_of(request(params=b'{ "b": {"d":3,"c":2}, "a": 1 }'))) == "the state"
    others = [
        request(caller=Caller("eve", (), ("*",), "jwt", "k")),
        request(target="k8s_delete"),
        request(method="prompts/get"),
        request(params=b'{"a":2,"b":{"c":2,"d":3}}'),
        request(params=b""),
    ]
    for other in others:
        with pytest.raises(BadStateError):
            sealer.open(token, **binding_of(other))


def test_altered_expired_and_foreign_states_are_refused() -> None:
    binding = binding_of(request())
    sealer = Sealer([b"k" * 32], ttl_s=0.001)
    token = sealer.seal("s", **binding)
    time.sleep(0.01)
    foreign = Sealer([b"z" * 32]).seal("s", **binding)
    for wrong in (token, foreign, "", "v1.", "x" * 300_000, token[:-2], "v1." + token[4:], "\ud800", "ü"):
        with pytest.raises(BadStateError):
            sealer.open(wrong, **binding)


def test_keys_rotate() -> None:
    binding = binding_of(request())
    old, new = b"o" * 32, b"n" * 32
    token = Sealer([old]).seal("s", **binding)
    assert Sealer([new, old]).open(token, **binding) == "s"
    with pytest.raises(BadStateError):
        Sealer([new]).open(token, **binding)


@given(st.text(max_size=200))
def test_any_text_as_a_state_is_refused(token: str) -> None:
    with pytest.raises(BadStateError):
        Sealer([b"k" * 32]).open(token, **binding_of(request()))


def test_who_is_denied_something_gets_a_narrow_token() -> None:
    import jwt

    minter = Minter(Signer.generate())

    def claims(token: str) -> dict[str, Any]:
        return dict(jwt.decode(token, options={"verify_signature": False}))

    free = Caller("ada", ("admin",), ("*",), "jwt", "1")
    held = Caller("bob", ("operator",), ("!k8s:delete", "k8s:*"), "jwt", "2", grants=(ONLY_DEV,))
    assert claims(minter.token(free, "k8s"))["permissions"] == ["*"]
    assert minter.token(free, "k8s") is minter.token(free, "k8s")
    assert claims(minter.token(free, "k8s"))["aud"] == "opsbus-bus/k8s"
    assert claims(minter.token(free, "cmdb"))["aud"] == "opsbus-bus/cmdb"
    found = claims(minter.token(held, "k8s"))
    assert found["permissions"] == ["!k8s:delete", "k8s:*"]
    assert found["grants"] == [{"effect": "allow", "permission": "cmdb:write", "where": {"namespace": ["dev"]}}]


@pytest.mark.parametrize("code", list(ErrorCode))
@pytest.mark.parametrize("era", [MODERN, LEGACY])
def test_every_code_has_an_answer_in_every_era(code: ErrorCode, era: str) -> None:
    error = error_body(code, "what is wrong", hint="what to do", details={"uri": "x://y"})
    number, message, data, http = to_jsonrpc_error(error, era)
    assert number < 0
    assert message == "what is wrong"
    assert data["code"] == code.value
    assert data["executed"] == "no"
    assert 200 <= http < 600
    assert is_protocol_error(error) is (CODES[code].rpc is not None)
    assert is_protocol_error(error, "resources/read") is True
    result = json.loads(to_tool_result(error))
    assert result["isError"] is True
    assert result["structuredContent"]["error"]["hint"] == "what to do"


def test_a_missing_resource_has_the_code_of_its_era() -> None:
    error = error_body(ErrorCode.UNKNOWN_RESOURCE, "m")
    assert to_jsonrpc_error(error, MODERN)[0] == -32602
    assert to_jsonrpc_error(error, LEGACY)[0] == -32002


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda x: st.lists(x, max_size=3)))
def test_json_comes_back_without_loss(value: Any) -> None:
    try:
        raw = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    assert jsonin.loads(raw, 64) == value
    assert json.loads(jsonin.dumps(value)) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"NaN", b"[1e999999]x", b'"\\ud800"', b"\xff", b"[" * 65 + b"]" * 65, b"[" * 1_000_000,
        b"{'a':1}", b"12345678901234567890NaN", b"[" + b"9" * 6000 + b"]", b'{"a":Infinity,"b":1234567890123456789012}',
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(raw: bytes) -> None:
    with pytest.raises(jsonin.BadJsonError):
        jsonin.loads(raw, 64)


def test_brackets_in_strings_are_not_depth() -> None:
    assert jsonin.loads(b'["' + b"[" * 500 + b'\\""]', 8) == ["[" * 500 + '"']


@pytest.mark.parametrize(
    ("given_", "found"),
    [("k8s:get_pods", "k8s_get_pods"), ("k8s_get_pods", "k8s_get_pods"), ("k8s-ops:get", "k8s_ops_get"), (":", "_")],
)
def test_prefixed_names_are_accepted(given_: str, found: str) -> None:
    assert mcp_name_of(given_) == found


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("localhost:8080", None, None),
        ("LOCALHOST:1", None, None),
        ("127.0.0.1", None, None),
        ("[::1]:80", None, None),
        ("evil.example", None, 421),
        ("localhost.evil.example", None, 421),
        ("localhost:80:80", None, 421),
        ("localhost:x", None, 421),
        ("", None, 400),
        ("localhost", "http://localhost:3000", None),
        ("localhost", "http://evil.example", 403),
        ("localhost", "https://localhost.evil.example:1", 403),
        ("localhost", "null", 403),
    ],
)
def test_hosts_and_origins(host: str, origin: str | None, status: int | None) -> None:
    guard = Guard(
        ["localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[::1]", "[::1]:*"],
        ["http://localhost", "http://localhost:*"],
    )
    refusal = guard.refusal({"host": host} | ({"origin": origin} if origin else {}))
    assert (refusal[1] if refusal else None) == status


def test_no_settings_class_hides_what_another_checks() -> None:
    from opsbus_edge.settings import EdgeSettings

    names: dict[str, str] = {}
    for part in EdgeSettings.__mro__[1:]:
        if part.__module__.startswith("opsbus_edge.settings"):
            for name in vars(part):
                if not name.startswith("__") and name not in {"model_config", "_abc_impl"}:
                    assert name not in names or part.__name__ == names[name], f"{name}: {part.__name__}, {names[name]}"
                    names.setdefault(name, part.__name__)


def test_a_clients_json_is_kept_unless_the_client_made_it_large() -> None:
    small = ClientInfo(name="a", version="1", protocol="2026-07-28", capabilities={"elicitation": {}})
    assert ClientInfo.model_validate_json(client_json(small)) == small
    assert client_json(small) is client_json(small.model_copy())
    large = small.model_copy(update={"capabilities": {"experimental": {"x": "y" * 10_000}}})
    assert ClientInfo.model_validate_json(client_json(large)) == large
    assert client_json(large) is not client_json(large)
