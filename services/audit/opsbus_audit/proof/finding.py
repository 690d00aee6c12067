"""What a verification says: the first event that is not as it was recorded, and what was looked at. How it is found is
roots.py's and match.py's matter.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """What is wrong."""

    ALTERED = "altered"
    MISSING = "missing"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    INVENTED = "invented"
    FORGED = "forged"
    """A checkpoint, a manifest or a list of leaf hashes is not what was signed."""


@dataclass(frozen=True)
class Finding:
    """The first event that is not as it was recorded."""

    kind: Kind
    sequence: int
    """0 where it is about no event."""
    what: str
    last: int = 0
    """The last one, where it is about several."""
    stream: str = ""


@dataclass
class Report:
    """What a verification found."""

    source: str
    events: int = 0
    """Compared and found to be as they were recorded."""
    first: int = 0
    last: int = 0
    signed: int = 0
    """Leaves under the checkpoint."""
    unsigned: int = 0
    """Events that no checkpoint covers yet."""
    checkpoints: int = 0
    let_go: list[tuple[int, int]] = field(default_factory=list)
    """Runs of sequences that the retention policy let go of: not there, and said so. Their leaves are."""
    let_go_events: int = 0
    complete: bool = True
    """False: an export of some events only; that others are not in it is no finding."""
    notes: list[str] = field(default_factory=list)
    root: str = ""
    seconds: float = 0.0
    finding: Finding | None = None

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return self.finding is None

    def as_dict(self) -> dict[str, Any]:
        """For a program."""
        return asdict(self) | {"ok": self.ok}

    def found(self, finding: Finding | None) -> None:
        """Keep the first finding: one about an event before one about none, then by sequence."""
        if finding is not None and (self.finding is None or _rank(finding) < _rank(self.finding)):
            self.finding = finding


def _rank(finding: Finding) -> tuple[bool, int]:
    return (finding.sequence == 0, finding.sequence)
