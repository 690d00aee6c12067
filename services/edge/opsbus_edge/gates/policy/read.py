"""A policy out of a YAML file, checked as a whole; mistakes are told by line."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from opsbus.permission import DIMENSIONS
from opsbus.settings import SettingsError
from opsbus.toolerror import near
from opsbus_contracts.identity import Grant
from opsbus_edge.gates.policy.policy import Policy
from opsbus_edge.gates.policy.rules import Approval, Entry, Role, ToolRule

FILE_BYTES_MAX = 1_000_000
_NAME = re.compile(r"^[a-zA-Z][a-zA-Z0-9_.:-]{0,63}$")
_GLOB = re.compile(r"^[a-zA-Z0-9_*.:/-]{1,128}$")
_VALUE = re.compile(r"^[^\x00-\x1f,]{1,256}$")
_PERMISSION = re.compile(r"^[a-zA-Z0-9_.:/-]{1,128}$")
_ENVIRONMENT = "environment"
_WHERE = ", ".join(DIMENSIONS)

Where = dict[str, list[str]]


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
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _wrong(name, mark.line + 1 if mark else 1, getattr(error, "problem", None) or "no valid YAML") from None
    reader = _Reader(name)
    top = reader.mapping(root, "the policy", ("roles", "environments", "tools"))
    reader.environments = {
        environment: reader.environment(environment, node)
        for environment, node in reader.mapping(top.get("environments"), "environments", optional=True).items()
    }
    roles = {role: reader.role(role, node) for role, node in reader.mapping(top.get("roles"), "roles").items()}
    if not roles:
        raise _wrong(name, 1, "there are no roles")
    _check_inheritance(roles, name)
    tools = [reader.tool(tool, node) for tool, node in reader.mapping(top.get("tools"), "tools", optional=True).items()]
    return Policy(roles, tools, name, hashlib.sha256(text.encode()).hexdigest()[:16])


def _check_inheritance(roles: dict[str, Role], name: str) -> None:
    for role, written in roles.items():
        for parent, line in written.inherits:
            if parent not in roles:
                meant = near(parent, list(roles))
                hint = f"; did you mean {meant[0]!r}" if meant else ""
                raise _wrong(name, line, f"role {role!r} inherits {parent!r}, which does not exist{hint}")
    for role, written in roles.items():
        way = [role]
        waiting = [(parent, [*way, parent]) for parent, _ in written.inherits]
        seen: set[str] = set()
        while waiting:
            parent, way = waiting.pop()
            if parent == role:
                raise _wrong(name, written.line, f"role {role!r} inherits itself: {' -> '.join(way)}")
            if parent not in seen:
                seen.add(parent)
                waiting += [(further, [*way, further]) for further, _ in roles[parent].inherits]


class _Reader:
    """Reads YAML nodes, which know their line."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.environments: dict[str, list[Where]] = {}

    @staticmethod
    def line(node: Any) -> int:
        return int(node.start_mark.line) + 1 if node is not None else 1

    def mapping(
        self, node: Any, what: str, allowed: tuple[str, ...] | None = None, *, optional: bool = False
    ) -> dict[str, Any]:
        if node is None and optional:
            return {}
        if not isinstance(node, yaml.MappingNode):
            raise _wrong(self._name, self.line(node), f"{what} must be a mapping")
        found: dict[str, Any] = {}
        for key, value in node.value:
            text = str(key.value)
            if text in found:
                raise _wrong(self._name, self.line(key), f"{text!r} stands there twice")
            if allowed is not None and text not in allowed:
                meant = near(text, list(allowed))
                hint = f"did you mean {meant[0]!r}" if meant else f"there are {', '.join(allowed)}"
                raise _wrong(self._name, self.line(key), f"{text!r} is unknown in {what}; {hint}")
            if allowed is None and not (_NAME if what != "tools" else _GLOB).fullmatch(text):
                raise _wrong(self._name, self.line(key), f"{text!r} is no name in {what}")
            found[text] = value
        return found

    def role(self, name: str, node: Any) -> Role:
        what = f"role {name!r}"
        fields = self.mapping(node, what, ("description", "inherits", "allow", "deny"))
        role = Role(self.line(node))
        role.inherits = self.texts(fields.get("inherits"), f"inherits of {what}", _NAME, "name of a role")
        for effect in ("deny", "allow"):
            role.entries += self._entries(fields.get(effect), f"{effect} of {what}", effect)
        return role

    def environment(self, name: str, node: Any) -> list[Where]:
        what = f"environment {name!r}"
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = [self._where(item, what) for item in nodes]
        if not found:
            raise _wrong(self._name, self.line(node), f"{what} is empty")
        return found

    def tool(self, tool: str, node: Any) -> ToolRule:
        what = f"tool {tool!r}"
        fields = self.mapping(node, what, ("requires", "approval", "description"))
        requires = self.texts(fields.get("requires"), f"requires of {what}", _PERMISSION, "permission without *")
        approval = fields.get("approval")
        chosen = None
        if approval is not None:
            if approval.value not in set(Approval):
                raise _wrong(self._name, self.line(approval), f"approval of {what} is one of {', '.join(Approval)}")
            chosen = Approval(approval.value)
        return ToolRule(self.line(node), tool, tuple(text for text, _ in requires), chosen)

    def texts(self, node: Any, what: str, pattern: re.Pattern[str], a: str) -> list[tuple[str, int]]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise _wrong(self._name, self.line(node), f"{what} must be a list")
        return [self._text(item, what, pattern, a) for item in node.value]

    def _text(self, item: Any, what: str, pattern: re.Pattern[str], a: str) -> tuple[str, int]:
        if not isinstance(item, yaml.ScalarNode) or not pattern.fullmatch(item.value):
            raise _wrong(self._name, self.line(item), f"{what}: each item is a {a}")
        return item.value, self.line(item)

    def _entries(self, node: Any, what: str, effect: str) -> list[Entry]:
        if node is None:
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise _wrong(self._name, self.line(node), f"{what} must be a list")
        return [entry for item in node.value for entry in self._entry(item, what, effect)]

    def _entry(self, item: Any, what: str, effect: str) -> list[Entry]:
        if not isinstance(item, yaml.MappingNode):
            text, line = self._text(item, what, _GLOB, "permission like k8s:*, or {permission: ..., where: ...}")
            return [Entry(line, effect, text)]
        fields = self.mapping(item, what, ("permission", "where"))
        given = fields.get("permission")
        if given is None or "where" not in fields:
            raise _wrong(self._name, self.line(item), f"{what}: an item with conditions has permission and where")
        nodes = given.value if isinstance(given, yaml.SequenceNode) else [given]
        conditions = self._conditions(fields["where"], what, effect)
        found = []
        for node in nodes:
            text, line = self._text(node, what, _GLOB, "permission like k8s:*")
            grants = [
                Grant(effect="deny" if effect == "deny" else "allow", permission=text, where=one) for one in conditions
            ]
            found.append(Entry(line, effect, text, tuple(grants)))
        return found

    def _conditions(self, node: Any, what: str, effect: str) -> list[Where]:
        """The alternatives that a ``where`` comes to: environments stand for what they are defined as."""
        where = self._where(node, f"where of {what}", environments=True)
        names = where.pop(_ENVIRONMENT, [])
        if not names:
            return [where]
        found = []
        for name in names:
            if name not in self.environments:
                meant = near(name, list(self.environments))
                hint = f"did you mean {meant[0]!r}" if meant else "define it under environments"
                raise _wrong(self._name, self.line(node), f"there is no environment {name!r}; {hint}")
            defined = self.environments[name]
            if effect == "deny" and len(defined) > 1:
                raise _wrong(
                    self._name,
                    self.line(node),
                    f"a denial needs an environment with one definition, {name!r} has several",
                )
            for one in defined:
                if both := sorted(set(one) & set(where)):
                    raise _wrong(
                        self._name, self.line(node), f"{name!r} already says which {both[0]}: name one of the two"
                    )
                found.append(where | one)
        return found

    def _where(self, node: Any, what: str, *, environments: bool = False) -> Where:
        fields = self.mapping(node, what, DIMENSIONS)
        if not fields:
            raise _wrong(self._name, self.line(node), f"{what} is empty; conditions are about {_WHERE}")
        found: Where = {}
        for name, value in fields.items():
            nodes = value.value if isinstance(value, yaml.SequenceNode) else [value]
            pattern = _NAME if environments and name == _ENVIRONMENT else _VALUE
            found[name] = [self._text(item, f"{name} in {what}", pattern, "name or glob")[0] for item in nodes]
            if not found[name]:
                raise _wrong(self._name, self.line(value), f"{name} in {what} is empty")
        return found


def _wrong(name: str, line: int, problem: str) -> SettingsError:
    return SettingsError(f"setting policy_file: {name} line {line}: {problem}; correct it")
