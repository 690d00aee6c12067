"""What is hidden before an event leaves the edge: by name, by place, by look; and the marks that stand there."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from opsbus_edge.redact import BYTES_MAX, DigestKey, Redactor, path_rule, pattern
from opsbus_edge.redact.mark import HIDDEN
from opsbus_edge.settings import EdgeSettings

KEY = DigestKey(b"k" * 32)
MARK = re.compile(r"\[redacted [0-9a-f]{16}\]")


def kept(redactor: Redactor, arguments: Any, tool: str = "") -> dict[str, Any]:
    return redactor.arguments(json.dumps(arguments).encode(), tool).arguments


def test_sensitive_values_are_hidden_and_names_kept() -> None:
    given_ = {
        "password": "hunter2", "apiKey": "k", "nested": {"auth_token": "t", "list": [{"client_secret": ["a", "b"]}]},
        "note": "use Bearer abcdefgh12345 here", "page_token": "p", "namespace": "shop", "empty_token": "", "n": 5,
        "Authorization": {"user": "x"}, "tokens": ["a"], "my_ssn": "123", "otp": 0, "use_token": True,
    }  # fmt: skip
    assert kept(Redactor(["ssn"]), given_) == {
        "password": HIDDEN, "apiKey": HIDDEN, "nested": {"auth_token": HIDDEN, "list": [{"client_secret": HIDDEN}]},
        "note": f"use Bearer {HIDDEN} here", "page_token": "p", "namespace": "shop", "empty_token": "", "n": 5,
        "Authorization": HIDDEN, "tokens": HIDDEN, "my_ssn": HIDDEN, "otp": HIDDEN, "use_token": True,
    }  # fmt: skip


def test_large_and_deep_arguments_are_bounded() -> None:
    redactor = Redactor()
    assert "_omitted" in kept(redactor, {"a": "x" * BYTES_MAX})
    deep: Any = "secret"
    for _ in range(30):
        deep = {"a": deep}
    assert "nested too deep" in json.dumps(kept(redactor, deep))
    assert len(kept(redactor, {"a": "x" * 5_000})["a"]) < 2_100


@pytest.mark.parametrize(
    ("rule", "tool", "arguments", "hidden"),
    [
        ("note", "any_tool", {"note": "a", "b": {"note": "b"}}, ["note"]),
        ("b.note", "any_tool", {"note": "a", "b": {"note": "b"}}, ["b.note"]),
        ("**.note", "any_tool", {"note": "a", "b": {"note": "b"}}, ["note", "b.note"]),
        ("spec.env.*.value", "t", {"spec": {"env": [{"name": "A", "value": "1"}, {"value": 2}]}}, ["1", "2"]),
        ("spec.env.1.value", "t", {"spec": {"env": [{"name": "A", "value": "1"}, {"value": 2}]}}, ["2"]),
        ("cmdb_*: who", "cmdb_update_asset", {"who": "a"}, ["who"]),
        ("cmdb_*: who", "k8s_scale", {"who": "a"}, []),
        ("**.a.**.b", "t", {"x": {"a": {"y": {"b": "1"}, "b": "2"}}, "b": "3"}, ["1", "2"]),
        ("a", "t", {"a": {"deep": ["structure", 1]}}, ["a"]),
        ("a.b", "t", {"a": "no object", "b": "c"}, []),
        ("*", "t", {"a": "1", "b": False, "c": None}, ["a", "b", "c"]),
    ],
)
def test_places_are_hidden(rule: str, tool: str, arguments: Any, hidden: list[str]) -> None:
    plain = kept(Redactor(), arguments, tool)
    found = kept(Redactor(paths=[path_rule(rule)]), arguments, tool)
    assert json.dumps(found).count(HIDDEN) == len(hidden)
    assert (found == plain) is (not hidden)


@pytest.mark.parametrize("rule", ["", ":", "k8s_*:", ":a", "a..b", ".a", "a.", "a.**", ".".join("a" * 33)])
def test_a_wrong_place_stops_the_start_with_a_line(rule: str) -> None:
    with pytest.raises(ValidationError, match="audit_redact_paths"):
        EdgeSettings(audit_redact_paths=[rule])


@pytest.mark.parametrize("wrong", ["(", "a*", ".*", "x" * 501, "(?P<name>a)", r"(a)\1", "|b"])
def test_a_wrong_pattern_stops_the_start_with_a_line(wrong: str) -> None:
    with pytest.raises(ValidationError, match="audit_redact_patterns"):
        EdgeSettings(audit_redact_patterns=[wrong])


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("curl -H 'Authorization: Bearer abcdef0123456789'", "abcdef0123456789"),
        ("see postgres://ada:hunter2@db/shop", "hunter2"),
        ("password=hunter2, user=ada", "hunter2"),
        ("API-Key: s3cr3tvalue", "s3cr3tvalue"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----", "MHcCAQ"),
        ("-----BEGIN PRIVATE KEY-----\ncut off MHcCAQ", "MHcCAQ"),
        ("it is eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl", "eyJzdWIiOiJhZGEifQ"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
        ("ghp_" + "a" * 36, "a" * 36),
        ("xoxb-123456789012-abc", "123456789012"),
        ("glpat-" + "b" * 20, "b" * 20),
        ("SUA" + "B" * 55, "B" * 55),
        ("customer 4711-0815 called", "4711-0815"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_wherever_it_stands(text: str, secret: str) -> None:
    redactor = Redactor(patterns=[pattern(r"\b\d{4}-\d{4}\b")], key=KEY)
    shown = kept(redactor, {"reason": text, "list": [text], text: True})
    assert secret not in json.dumps(shown)
    assert len(MARK.findall(json.dumps(shown))) == 3
    assert secret not in redactor.sentence(f"the backend said: {text}")


@pytest.mark.parametrize(
    "text",
    ["bearer of bad news", "the secret is out", "https://shop.example/a:b@c", "deploy token-service", "ASIA is large"],
)
def test_plain_words_stay(text: str) -> None:
    assert kept(Redactor(key=KEY), {"reason": text}) == {"reason": text}


def test_equal_values_have_equal_marks_and_only_for_the_same_key() -> None:
    mine, other = Redactor(key=KEY), Redactor(key=DigestKey(b"o" * 32))
    one = kept(mine, {"password": "hunter2", "nested": [{"token": "hunter2"}], "secret": "other"})
    assert MARK.fullmatch(one["password"])
    assert one["password"] == one["nested"][0]["token"] != one["secret"]
    assert kept(other, {"password": "hunter2"})["password"] != one["password"]
    assert kept(mine, {"password": {"b": 1, "a": 2}}) == kept(mine, {"password": {"a": 2, "b": 1}})
    assert kept(mine, {"otp": 0})["otp"] != kept(mine, {"otp": "0"})["otp"]


def test_the_digest_of_arguments_lets_nobody_try_guesses() -> None:
    clear, secret = b'{"namespace":"shop"}', b'{"namespace":"shop","otp":"1234"}'
    assert re.fullmatch(r"[0-9a-f]{64}", Redactor().arguments(clear).digest)
    assert Redactor(key=KEY).arguments(clear) == Redactor().arguments(clear)
    assert Redactor().arguments(secret).digest == ""
    digest = Redactor(key=KEY).arguments(secret).digest
    assert digest.startswith("hmac-sha256:")
    assert digest == Redactor(key=KEY).arguments(secret).digest
    assert digest != Redactor(key=DigestKey(b"o" * 32)).arguments(secret).digest


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        DigestKey(b"short")


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=15,
)


@given(st.dictionaries(st.text(max_size=10), _json, max_size=5), st.text(min_size=6, max_size=20))
def test_no_argument_breaks_it_and_no_covered_value_is_left(arguments: dict[str, Any], secret: str) -> None:
    redactor = Redactor(paths=[path_rule("**.hide_me")], key=KEY)
    secret = f"\u2603{secret}"
    found = kept(redactor, {"rest": arguments, "x": [{"hide_me": {"a": [secret]}}]})
    assert MARK.fullmatch(found["x"][0]["hide_me"])
    assert secret not in json.dumps(found["x"], ensure_ascii=False)
