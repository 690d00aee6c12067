"""Which API groups a server of some Kubernetes version has, what is left out of it, and what is out of order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from opsbus_sandbox.kube.resources import SERVED, ResourceType

KNOWN = tuple(f"1.{minor}" for minor in range(27, 38))
"""The versions that can be played, oldest first."""

AGGREGATED_V2_SINCE = 30
"""Discovery in one answer: v2beta1 in all of KNOWN, v2 from this minor version on."""

_SINCE = {("authentication.k8s.io", "v1"): 28}
"""What came within KNOWN, by minor version; the rest is in all of them."""


class UnknownVersionError(ValueError):
    """No version that can be played."""


@dataclass(frozen=True)
class Served:
    """What a server has.

    Args:
        git_version: ``v1.34.2``.
        lacks: Groups (``events.k8s.io``) or versions of one (``autoscaling/v2``) it has not.
        down: Versions of groups that are listed but do not answer, as of an extension whose own server is away
            (``metrics.k8s.io/v1beta1``).
    """

    git_version: str
    lacks: frozenset[str] = frozenset()
    down: tuple[str, ...] = ()
    kinds: dict[tuple[str, str, str], ResourceType] = field(default_factory=dict)

    @property
    def minor(self) -> int:
        """``34`` of ``v1.34.2``."""
        return int(self.git_version.lstrip("v").split(".")[1])

    def groups(self) -> dict[str, list[str]]:
        """API group to its versions, in the order discovery lists them; the core group is the empty string."""
        groups: dict[str, list[str]] = {}
        for group, version in (*((group, version) for group, version, _ in self.kinds), *self._down()):
            versions = groups.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        return groups

    def of(self, group: str, version: str) -> list[ResourceType]:
        """The kinds of one group and version, by name."""
        found = (kind for kind in self.kinds.values() if (kind.group, kind.version) == (group, version))
        return sorted(found, key=lambda kind: kind.plural)

    def is_down(self, group: str, version: str) -> bool:
        """Whether it is listed but does not answer."""
        return (group, version) in self._down()

    def _down(self) -> list[tuple[str, str]]:
        return [(group, version) for group, _, version in (name.partition("/") for name in self.down)]


def served(version: str, default: str, lacks: Iterable[str] = (), down: Iterable[str] = ()) -> Served:
    """What a server of ``version`` (``1.27``) has; empty: ``default``, a whole version such as ``v1.34.2``.

    Raises:
        UnknownVersionError: it is none of KNOWN.
    """
    if version and version not in KNOWN:
        raise UnknownVersionError(f"no Kubernetes {version!r} can be played; there are {KNOWN[0]} to {KNOWN[-1]}")
    git_version = default if not version or default.startswith(f"v{version}.") else f"v{version}.0"
    plain = Served(git_version, frozenset(lacks), tuple(down))
    kinds = {
        name: kind
        for name, kind in SERVED.items()
        if _SINCE.get(name[:2], 0) <= plain.minor and not plain.lacks & {kind.group or "core", kind.api_version}
    }
    return Served(git_version, plain.lacks, plain.down, kinds)
