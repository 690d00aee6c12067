"""Whole objects with their secrets masked: by kind, by name, by what stands next to what. Names and keys are kept.

What a secret looks like in text is known to masking.py.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import re2  # type: ignore[import-untyped]

from opsbus_k8s_ops.api import Obj
from opsbus_k8s_ops.masking import CREDENTIAL, LineMasker, is_credential_name, mask_text, masked, may_hold_secret

COPIES = ("kubectl.kubernetes.io/last-applied-configuration", "kapp.k14s.io/original")
"""Annotations that hold the whole object once more, secrets and all."""

SECRET_ANNOTATION_CHARS = 100
"""A longer annotation of a Secret may be a copy of it."""

JSON_CHARS_MAX = 2_000_000
"""A longer text is not read as JSON, but as lines."""

LINES_CHARS_MAX = 300_000
"""A longer text is shown up to here: nobody reads on, and every line is searched for secrets."""

_DATA = ("data", "stringData", "binaryData")
_PEM_MARK = "LS0tLS1CRUdJT"
_KEY_PEM = re2.compile(r"LS0tLS1CRUdJT[A-Za-z0-9+/]{10,}={0,2}")
_OPTION = re2.compile(rf"(?i)(--?[a-z0-9\-_]*(?:{CREDENTIAL})[ \t]+)([^\s\-][^\s]*)")
_NAMED = re.compile(r"^\s*(?:- )?name\s*:\s*[\"']?([A-Za-z0-9_.\-]+)")
_VALUED = re.compile(r"^(\s*(?:- )?value\s*:\s*)\S")
_BLOCK = re.compile(r"^(\s*)(?:- )?[\"']?([A-Za-z0-9_.\-]+)[\"']?\s*:\s*[|>][+\-0-9]*\s*$")


def clean(obj: Obj) -> Obj:
    """An object to show: without managedFields and copies of itself, every secret masked.

    The given one is untouched.
    """
    meta = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"}
    kind = str(obj.get("kind") or "")
    if meta.get("annotations"):
        meta["annotations"] = _annotations(meta["annotations"], kind)
    shown: Obj = {}
    for key, value in obj.items():
        if key == "metadata":
            shown[key] = {name: part if name == "annotations" else _value(part, name) for name, part in meta.items()}
        elif "secret" in kind.lower() and key not in ("apiVersion", "kind"):
            shown[key] = _hidden(value, key)
        elif kind == "ConfigMap" and key in _DATA and isinstance(value, dict):
            shown[key] = _files(value, key, _is_release(obj))
        else:
            shown[key] = _value(value, key)
    return shown


def _annotations(found: dict[str, Any], kind: str) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in found.items():
        if name in COPIES:
            shown[name] = f"[left out: a copy of the object, {len(str(value))} characters]"
        elif "secret" in kind.lower() and len(str(value)) > SECRET_ANNOTATION_CHARS:
            shown[name] = masked("secret")
        else:
            shown[name] = _value(value, name)
    return shown


def _hidden(value: Any, name: str) -> Any:
    """A part of a kind that holds secrets: whatever stands in its data is one."""
    if isinstance(value, dict):
        if name in _DATA:
            return {key: masked("secret") if _is_scalar(part) else _hidden(part, key) for key, part in value.items()}
        return {key: _hidden(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [_hidden(part, "") for part in value]
    return masked("secret") if name in _DATA else _value(value, name)


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, dict | list)


def _is_release(obj: Obj) -> bool:
    """Helm keeps a release, with the values it was given, in a ConfigMap when it is told to."""
    labels = (obj.get("metadata") or {}).get("labels") or {}
    return str(labels.get("owner") or labels.get("OWNER") or "").lower() in ("helm", "tiller")


def _files(data: dict[str, Any], part: str, release: bool) -> dict[str, Any]:
    if part == "binaryData":
        return {name: masked("binary") for name in data}
    if release:
        return {
            name: masked("helm_release") if name == "release" else _value(text, name) for name, text in data.items()
        }
    return {name: _value(text, name) for name, text in data.items()}


def _value(value: Any, name: str) -> Any:
    """A value under its name."""
    if isinstance(value, dict):
        return _pair(value) if _names_a_value(value) else {key: _value(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return _items(value)
    if isinstance(value, bool) or value is None or value == "":
        return value
    if is_credential_name(name):
        return masked(_kind(name))
    return _text(value) if isinstance(value, str) else value


def _kind(name: str) -> str:
    """What kind of secret a name speaks of."""
    text = mask_text(f"{name}=x")
    return text.partition("[masked:")[2].rstrip("]") or "secret"


def _names_a_value(value: dict[str, Any]) -> bool:
    return isinstance(value.get("name"), str) and isinstance(value.get("value"), str)


def _pair(pair: dict[str, Any]) -> dict[str, Any]:
    """``{name: DB_PASSWORD, value: ...}``, ``{name: Authorization, value: ...}``."""
    name, text = pair["name"], pair["value"]
    rest = {key: _value(part, key) for key, part in pair.items() if key not in ("name", "value")}
    shown = _value(text, name)
    if shown == text and text and mask_text(f"{name}: {text}") != f"{name}: {text}":
        shown = masked("secret")
    return {"name": name, "value": shown, **rest}


def _items(values: list[Any]) -> list[Any]:
    """A list; in ``["--password", "x"]`` the second is a secret."""
    shown: list[Any] = []
    for index, item in enumerate(values):
        before = values[index - 1] if index else ""
        if (
            isinstance(item, str)
            and isinstance(before, str)
            and before.startswith("-")
            and not item.startswith("-")
            and is_credential_name(before.lstrip("-"))
        ):
            shown.append(masked(_kind(before.lstrip("-"))))
        else:
            shown.append(_value(item, ""))
    return shown


def _text(text: str) -> str:
    """A text by itself: JSON by its names, anything else by its lines."""
    if text[:1] in "{[" and text[:1] and len(text) <= JSON_CHARS_MAX:
        try:
            read = json.loads(text)
        except ValueError:
            read = None
        if read is not None:
            shown = _value(read, "")
            return text if shown == read else json.dumps(shown)
    if not may_hold_secret(text) and _PEM_MARK not in text:
        return text
    text = _KEY_PEM.sub(_pem, text)
    text = _OPTION.sub(lambda m: m.group(1) + _option(m.group(1), m.group(2)), text)
    if "\n" not in text:
        return LineMasker()(text)
    if len(text) > LINES_CHARS_MAX:
        end = text.rfind("\n", 0, LINES_CHARS_MAX)
        kept = text[: end if end > 0 else LINES_CHARS_MAX]
        text = f"{kept}\n[cut: {len(text) - len(kept)} more characters]"
    return "\n".join(_lines(text.split("\n"), LineMasker() if "PRIVATE KEY" in text else mask_text))


def _lines(lines: list[str], mask: Callable[[str], str]) -> Iterator[str]:
    """The lines of a file: YAML says a secret below its name, or beside it."""
    block: int | None = None
    name = ""
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if block is not None and line.strip() and indent <= block:
            block = None
        if block is not None and line.strip():
            yield " " * indent + masked("secret")
            continue
        begins = _BLOCK.match(line) if line.rstrip()[-3:].strip("+-0123456789 ").endswith(("|", ">")) else None
        if begins and is_credential_name(begins.group(2)):
            block = len(begins.group(1))
        valued = _VALUED.match(line) if name and "value" in line else None
        if valued and is_credential_name(name):
            line = valued.group(1) + masked(_kind(name))
        named = _NAMED.match(line) if "name" in line else None
        name = named.group(1) if named else ""
        yield mask(line)


def _option(name: str, value: str) -> str:
    bare = name.strip().lstrip("-")
    return masked(_kind(bare)) if is_credential_name(bare) else value


def _pem(match: Any) -> str:
    """A private key in base64, as kubeconfigs have it; certificates are public."""
    found = str(match.group(0))
    head = found[:80]
    try:
        begin = base64.b64decode(head[: len(head) // 4 * 4], validate=True)
    except (ValueError, binascii.Error):
        return found
    return masked("private_key") if b"PRIVATE KEY" in begin else found
