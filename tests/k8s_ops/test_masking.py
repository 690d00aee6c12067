"""Secrets in logs and environments: masked by kind, everything else untouched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsbus_k8s_ops.masking import LineMasker, is_credential_name, mask_env, mask_text

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("line", "secret", "kind"),
    [
        ("Authorization: Bearer abc.def-ghi_123456", "abc.def-ghi_123456", "authorization"),
        ('{"authorization":"Basic dXNlcjpwYXNzd29yZA=="}', "dXNlcjpwYXNzd29yZA", "authorization"),
        ("calling with bearer 0123456789abcdef", "0123456789abcdef", "bearer_token"),
        (f"got {JWT} from login", JWT, "jwt"),
        ("DB_PASSWORD=hunter2 starting", "hunter2", "password"),
        ('{"user":"bob","password": "p\\"4ss w0rd","x":1}', "4ss w0rd", "password"),
        ("login failed: passwd: 's3cr3t!'", "s3cr3t!", "password"),
        ("api_key=AbCdEf123456&next=1", "AbCdEf123456", "key"),
        ("X-Api-Key: 9f8e7d6c5b", "9f8e7d6c5b", "key"),
        ("client_secret => zzz-top-1234", "zzz-top-1234", "secret"),
        ("FRAUD_API_TOKEN=frd_live_4eC39HqLyjWDarjtT1zdp7dc", "4eC39HqLyjWDarjtT1zdp7dc", "api_key"),
        ("key frd_live_4eC39HqLyjWDarjtT1zdp7dc used", "4eC39HqLyjWDarjtT1zdp7dc", "api_key"),
        ("postgres://app:s3cr3t@db:5432/shop", "s3cr3t", "password"),
        ("using AKIAIOSFODNN7EXAMPLE for s3", "AKIAIOSFODNN7EXAMPLE", "aws_access_key"),
        ("push with ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F292c6912E7710c838347Ae178B4a", "github_token"),
        ("slack xoxb-123456789012-abcdefGHIJ", "123456789012", "slack_token"),
        ("Set-Cookie: a; session_id=deadbeefcafe", "deadbeefcafe", "secret"),
        ("refreshToken=abcdefghijkl", "abcdefghijkl", "token"),
        ("passphrase is set: passphrase=correct-horse", "correct-horse", "password"),
    ],
)
def test_a_secret_is_masked_by_kind(line: str, secret: str, kind: str) -> None:
    masked = mask_text(line)
    assert secret not in masked
    assert f"[masked:{kind}]" in masked


@pytest.mark.parametrize(
    "line",
    [
        "GET /checkout/3 200 in 12 ms",
        "token bucket is empty, slowing down",
        "the password policy has changed",
        "PASSWORD_FILE=/run/secrets/db",
        "TOKEN_TTL=300 SESSION_TIMEOUT=20",
        "password=null token=",
        "https://shop.example/a@b?c=d",
        "tokens processed: 1234",
        "secretary: Jane",
        "monkey: banana",
        "",
    ],
)
def test_what_is_no_secret_stays(line: str) -> None:
    assert mask_text(line) == line


def test_masking_twice_changes_nothing_more() -> None:
    once = mask_text(f"Authorization: Bearer {JWT} password=abc postgres://u:p@h/ token='x y'")
    assert mask_text(once) == once


@given(st.text(max_size=300))
def test_any_text_can_be_masked(text: str) -> None:
    mask_text(text)


@given(st.text(alphabet="abcdefXYZ0123456789", min_size=6, max_size=40))
def test_a_password_never_survives(secret: str) -> None:
    assert "[masked:password] end" in mask_text(f"password={secret} end") or secret.lower() in ("null", "none")


def test_a_private_key_over_several_lines_is_masked_whole() -> None:
    mask = LineMasker()
    lines = [
        "key: -----BEGIN RSA PRIVATE KEY-----",
        "MIIEpAIBAAKCAQEA",
        "zzz==",
        "-----END RSA PRIVATE KEY-----",
        "next",
    ]
    shown = [mask(line) for line in lines]
    assert shown == ["key: [masked:private_key]", *["[masked:private_key]"] * 3, "next"]


def test_a_private_key_on_one_line_does_not_swallow_the_next() -> None:
    mask = LineMasker()
    assert mask("-----BEGIN PRIVATE KEY-----abc-----END PRIVATE KEY-----") == "[masked:private_key]"
    assert mask("hello") == "hello"


def test_hostile_input_is_masked_in_linear_time() -> None:
    line = "password" * 20_000 + '="' + "\\" * 100_000
    assert len(mask_text(line)) > 0


def test_names_of_credentials() -> None:
    yes = [
        "DB_PASSWORD",
        "API_TOKEN",
        "apiKey",
        "AWS_SECRET_ACCESS_KEY",
        "client-secret",
        "DATABASE_DSN",
        "token",
        "PGPASSWORD",
    ]
    no = ["PASSWORD_FILE", "TOKEN_URL", "LOG_LEVEL", "CART_SNAPSHOT", "KEYBOARD", "SECRETARY", "PASSENGER_COUNT"]
    assert [name for name in yes if not is_credential_name(name)] == []
    assert [name for name in no if is_credential_name(name)] == []


def test_environment_keeps_names_and_references() -> None:
    shown = mask_env(
        [
            {"name": "FRAUD_API_TOKEN", "value": "frd_live_abc"},
            {"name": "LOG_LEVEL", "value": "info"},
            {"name": "DB_URL", "value": "postgres://a:b@c/d"},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "checkout-payments", "key": "password"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "EMPTY"},
        ]
    )
    assert shown == {
        "FRAUD_API_TOKEN": "[masked:token]",
        "LOG_LEVEL": "info",
        "DB_URL": "postgres://a:[masked:password]@c/d",
        "PW": "(from secret checkout-payments, key password)",
        "NODE": "(from field spec.nodeName)",
        "EMPTY": "",
    }
