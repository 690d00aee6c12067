"""The policy: roles to permission globs, out of a YAML file that is checked as a whole; mistakes are told by line."""

import hashlib
import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from opsbus.settings import SettingsError

_ROLE = re.compile(r"^[a-zA-Z][a-zA-Z0-9_.:-]{0,63}$")
_GLOB = re.compile(r"^[a-zA-Z0-9_*.:/-]{1,128}$")
_ROLE_FIELDS = ("description", "inherits", "allow", "deny")
FILE_BYTES_MAX = 1_000_000


@dataclass(slots=True)
class Role:
    """A role as written; globs with the line they stand on."""

    line: int
    inherits: list[tuple[str, int]] = field(default_factory=list)
    allow: list[tuple[str, int]] = field(default_factory=list)
    deny: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a set of roles comes to."""

    permissions: tuple[str, ...]
    """Globs, sorted; those that deny begin with ``!``."""
    role_key: str
    """Equal for equal permissions."""


class Policy:
    """Roles and what they may."""

    def __init__(self, roles: dict[str, Role], name: str) -> None:
        self._roles = roles
        self._name = name
        self._resolved: dict[tuple[str, ...], Grant] = {}
        self._rules: dict[tuple[tuple[str, ...], str], str] = {}

    @property
    def roles(self) -> list[str]:
        """The names of roles."""
        return sorted(self._roles)

    def grant(self, roles: tuple[str, ...]) -> Grant:
        """What these roles permit together; a role that the policy does not know permits nothing."""
        known = tuple(sorted({role for role in roles if role in self._roles}))
        found = self._resolved.get(known)
        if found is None:
            globs: set[str] = set()
            for role in known:
                globs |= self._globs(role)
            permissions = tuple(sorted(globs))
            key = hashlib.sha256("\n".join(permissions).encode()).hexdigest()[:16]
            found = self._resolved[known] = Grant(permissions, key)
        return found

    def rule(self, roles: tuple[str, ...], glob: str) -> str:
        """Where a glob stands: ``policy.yaml:12 operator allow k8s:*``."""
        found = self._rules.get((roles, glob))
        if found is None:
            if len(self._rules) > 10_000:
                self._rules.clear()
            found = self._rules[roles, glob] = self._find_rule(roles, glob)
        return found

    def _find_rule(self, roles: tuple[str, ...], glob: str) -> str:
        kind, text = ("deny", glob[1:]) if glob.startswith("!") else ("allow", glob)
        for role in self._lineage(roles):
            for value, line in getattr(self._roles[role], kind):
                if value == text:
                    return f"{self._name}:{line} {role} {kind} {text}"
        return ""

    def _lineage(self, roles: tuple[str, ...]) -> list[str]:
        """Roles and those they inherit, each once."""
        found: list[str] = []
        waiting = [role for role in roles if role in self._roles]
        while waiting:
            role = waiting.pop(0)
            if role not in found:
                found.append(role)
                waiting += [name for name, _ in self._roles[role].inherits]
        return found

    def _globs(self, role: str) -> set[str]:
        globs: set[str] = set()
        for name in self._lineage((role,)):
            globs |= {text for text, _ in self._roles[name].allow}
            globs |= {f"!{text}" for text, _ in self._roles[name].deny}
        return globs


def load_policy(path: Path | None) -> Policy:
    """The policy of a file; None: the one shipped with the edge.

    Raises:
        SettingsError: naming file and line.
    """
    if path is None:
        return parse_policy(files("opsbus_edge").joinpath("policy.yaml").read_text(encoding="utf-8"), "policy.yaml")
    try:
        raw = path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror}); name a readable file"
        raise SettingsError(f"setting policy_file: {problem}") from None
    if len(raw) > FILE_BYTES_MAX:
        raise SettingsError(f"setting policy_file: {path} has more than {FILE_BYTES_MAX} bytes; name a policy")
    try:
        return parse_policy(raw.decode("utf-8"), path.name)
    except UnicodeDecodeError:
        raise SettingsError(f"setting policy_file: {path} is not UTF-8; correct it") from None


def parse_policy(text: str, name: str) -> Policy:
    """The policy of a text; ``name`` is the file's, for messages.

    Raises:
        SettingsError: naming file and line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise _wrong(name, mark.line + 1 if mark else 1, getattr(error, "problem", None) or "no valid YAML") from None
    reader = _Reader(name)
    top = reader.mapping(root, "the policy", ("roles",))
    if "roles" not in top:
        raise _wrong(name, 1, "there are no roles")
    roles: dict[str, Role] = {}
    for role, node in reader.mapping(top["roles"], "roles").items():
        if not _ROLE.fullmatch(role):
            raise _wrong(name, reader.line(node), f"{role!r} is no name for a role")
        roles[role] = reader.role(role, node)
    if not roles:
        raise _wrong(name, 1, "there are no roles")
    _check_inheritance(roles, name)
    return Policy(roles, name)


def _check_inheritance(roles: dict[str, Role], name: str) -> None:
    for role, written in roles.items():
        for parent, line in written.inherits:
            if parent not in roles:
                raise _wrong(name, line, f"role {role!r} inherits {parent!r}, which does not exist")
    for role, written in roles.items():
        waiting, seen = [parent for parent, _ in written.inherits], set[str]()
        while waiting:
            parent = waiting.pop()
            if parent == role:
                raise _wrong(name, written.line, f"role {role!r} inherits itself")
            if parent not in seen:
                seen.add(parent)
                waiting += [name for name, _ in roles[parent].inherits]


class _Reader:
    """Reads YAML nodes, which know their line."""

    def __init__(self, name: str) -> None:
        self._name = name

    @staticmethod
    def line(node: Any) -> int:
        return int(node.start_mark.line) + 1 if node is not None else 1

    def mapping(self, node: Any, what: str, allowed: tuple[str, ...] | None = None) -> dict[str, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise _wrong(self._name, self.line(node), f"{what} must be a mapping")
        found: dict[str, Any] = {}
        for key, value in node.value:
            text = str(key.value)
            if text in found:
                raise _wrong(self._name, self.line(key), f"{text!r} stands there twice")
            if allowed is not None and text not in allowed:
                raise _wrong(
                    self._name, self.line(key), f"{text!r} is unknown in {what}; there are {', '.join(allowed)}"
                )
            found[text] = value
        return found

    def role(self, name: str, node: Any) -> Role:
        fields = self.mapping(node, f"role {name!r}", _ROLE_FIELDS)
        role = Role(self.line(node))
        role.inherits = self._texts(fields.get("inherits"), f"inherits of role {name!r}", _ROLE, "name of a role")
        role.allow = self._texts(fields.get("allow"), f"allow of role {name!r}", _GLOB, "permission like k8s:*")
        role.deny = self._texts(fields.get("deny"), f"deny of role {name!r}", _GLOB, "permission like k8s:*")
        return role

    def _texts(self, node: Any, what: str, pattern: re.Pattern[str], a: str) -> list[tuple[str, int]]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise _wrong(self._name, self.line(node), f"{what} must be a list")
        found = []
        for item in node.value:
            if not isinstance(item, yaml.ScalarNode) or not pattern.fullmatch(item.value):
                raise _wrong(self._name, self.line(item), f"{what}: each item is a {a}")
            found.append((item.value, self.line(item)))
        return found


def _wrong(name: str, line: int, problem: str) -> SettingsError:
    return SettingsError(f"setting policy_file: {name} line {line}: {problem}; correct it")
