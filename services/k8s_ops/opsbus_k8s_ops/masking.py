"""Secrets out of text and settings: values masked by kind, names kept.

Patterns run in linear time (RE2), on hostile input too.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import re2  # type: ignore[import-untyped]

CREDENTIAL = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|auth[_-]?key|credentials?"
    r"|session[_-]?id|cookie|signature|dsn"
)
"""Words that make a setting's name credential-like."""

_NAME = re2.compile(rf"(?i)(?:^|[_.\-]|[a-z])(?:{CREDENTIAL})(?:$|[_.\-0-9])")
_HARMLESS_NAME = re2.compile(
    r"(?i)(?:_|-|\.)(?:file|path|dir|name|ttl|timeout|expiry|expires|length|policy|url|header|type|count|max|min|enabled)$"
)

_PEM_BEGIN = re2.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_PEM_END = re2.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")

_KEYED = re2.compile(
    # name = value, name: value, "name": "value", name=>"value"; the name may have a prefix (DB_PASSWORD) or a suffix
    rf"(?i)((?:[a-z0-9]+[_.\-])*[a-z0-9]*?(?:{CREDENTIAL})[a-z0-9_\-]*[\"']?\s*(?:=>|=|:)\s*)"
    r"(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s,;&\"'\)\]\}]+)"
)

_BY_KIND = [
    (re2.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*"), "jwt"),
    (re2.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "aws_access_key"),
    (re2.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"), "github_token"),
    (re2.compile(r"\bglpat-[A-Za-z0-9_-]{16,}"), "gitlab_token"),
    (re2.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"), "slack_token"),
    (re2.compile(r"\bAIza[A-Za-z0-9_-]{30,}"), "google_api_key"),
    (re2.compile(r"\b[a-z]{2,5}_(?:live|test)_[A-Za-z0-9]{16,}"), "api_key"),
    (re2.compile(r"\bsk-[A-Za-z0-9_-]{20,}"), "api_key"),
    (re2.compile(r"\bglsa_[A-Za-z0-9_]{20,}"), "grafana_token"),
]

_AUTH = re2.compile(r"(?i)\b(bearer|basic)(\s+)([A-Za-z0-9._~+/=-]{8,})")
_HEADER = re2.compile(
    r"(?i)\b((?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?)(?:(bearer|basic|digest|token|apikey|negotiate)\s+)?([^\s\"',;]+)"
)
_URL = re2.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]*:)([^\s/@]+)(@)")

_QUICK = re2.compile(
    rf"(?i){CREDENTIAL}|bearer|basic|authorization|eyJ|AKIA|ASIA|gh[pousr]_|github_pat|glpat|xox|AIza|_live_|_test_"
    r"|sk-|glsa_|://[^\s/]*@|PRIVATE KEY"
)


def masked(kind: str) -> str:
    """What stands where a secret stood."""
    return f"[masked:{kind}]"


def mask_text(text: str) -> str:
    """One line or value with every recognised secret masked. What is masked already stays as it is."""
    if not _QUICK.search(text):
        return text
    text = _HEADER.sub(
        lambda m: m.group(1) + (f"{m.group(2)} " if m.group(2) else "") + _once(m.group(3), "authorization"), text
    )
    text = _AUTH.sub(lambda m: m.group(1) + m.group(2) + masked(f"{m.group(1).lower()}_token"), text)
    text = _URL.sub(lambda m: m.group(1) + masked("password") + m.group(3), text)
    for pattern, kind in _BY_KIND:
        text = pattern.sub(masked(kind), text)
    return str(_KEYED.sub(_keyed, text))


def may_hold_secret(text: str) -> bool:
    """Whether a text has any of the marks by which secrets are found: cheap, and true of much that is harmless."""
    return bool(_QUICK.search(text))


@lru_cache(maxsize=8_192)
def is_credential_name(name: str) -> bool:
    """Whether a setting of this name holds a secret: DB_PASSWORD does, PASSWORD_FILE and TOKEN_TTL do not."""
    return bool(_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def mask_env(variables: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Environment variables of a container by name: the value, the masked value, or the reference it comes from."""
    shown = {}
    for variable in variables:
        name = str(variable.get("name", ""))
        source = variable.get("valueFrom")
        if source:
            shown[name] = _reference(source)
        elif variable.get("value") and is_credential_name(name):
            shown[name] = masked(_kind_of(name))
        else:
            shown[name] = mask_text(str(variable.get("value") or ""))
    return shown


class LineMasker:
    """Masks the lines of one stream: it remembers that it is inside a private key, which spans lines."""

    def __init__(self) -> None:
        self._in_key = False

    def __call__(self, line: str) -> str:
        """The line to show."""
        if self._in_key:
            if _PEM_END.search(line):
                self._in_key = False
            return masked("private_key")
        if _PEM_BEGIN.search(line):
            self._in_key = not _PEM_END.search(line)
            begin = _PEM_BEGIN.search(line)
            return mask_text(line[: begin.start()]) + masked("private_key")
        return mask_text(line)


def _keyed(match: Any) -> str:
    name, value = str(match.group(1)), str(match.group(2))
    word = name.rstrip(" \t=:>\"'")
    if _HARMLESS_NAME.search(word) or not is_credential_name(word):
        return name + value
    quote = value[0] if value[:1] in "\"'" else ""
    bare = value.strip("\"'")
    if not bare or bare.lower() in ("null", "none", "true", "false", "bearer", "basic") or bare.startswith("[masked:"):
        return name + value
    return name + quote + masked(_kind_of(word)) + quote


def _once(value: str, kind: str) -> str:
    return value if value.startswith("[masked:") else masked(kind)


def _kind_of(name: str) -> str:
    lower = name.lower().replace("-", "_")
    for word, kind in (
        ("pass", "password"),
        ("pwd", "password"),
        ("token", "token"),
        ("key", "key"),
        ("cookie", "cookie"),
    ):
        if word in lower:
            return kind
    return "secret"


def _reference(source: dict[str, Any]) -> str:
    for kind, label in (("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")):
        if kind in source:
            return f"(from {label} {source[kind].get('name', '')}, key {source[kind].get('key', '')})"
    if "fieldRef" in source:
        return f"(from field {source['fieldRef'].get('fieldPath', '')})"
    return f"(from {next(iter(source), 'elsewhere')})"
