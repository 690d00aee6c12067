"""Plain data as YAML text: mappings, lists and scalars, strings always safe. The contracts depend on pydantic alone."""

import json
import re
from typing import Any

_PLAIN = re.compile(r"^[A-Za-z_/][A-Za-z0-9_./ -]*$")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def to_yaml(value: Any, indent: int = 0) -> str:
    """Block-style YAML of ``value``; ends with a newline."""
    pad = "  " * indent
    lines: list[str] = []
    if isinstance(value, dict):
        for key, item in value.items():
            lines.append(_entry(f"{pad}{_scalar(str(key))}:", item, indent))
    else:
        for item in value:
            if _nested(item):
                body = to_yaml(item, indent + 1)
                lines.append(f"{pad}- {body[len(pad) + 2 :]}")
            else:
                lines.append(f"{pad}- {_scalar(item)}\n")
    return "".join(lines)


def _nested(item: Any) -> bool:
    return isinstance(item, dict | list) and bool(item)


def _entry(head: str, item: Any, indent: int) -> str:
    if _nested(item):
        return f"{head}\n{to_yaml(item, indent + 1)}"
    return f"{head} {_scalar(item)}\n"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _WORDS and value == value.strip():
        return value
    return json.dumps(value, ensure_ascii=False)
