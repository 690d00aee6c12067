"""Comparing leaf hashes with the checkpoints over them. Whether the events are those of the leaf hashes is match.py's
matter.
"""

from collections import deque
from collections.abc import Iterable

from opsbus_audit.proof.checkpoint import Checkpoint
from opsbus_audit.proof.finding import Finding, Kind
from opsbus_audit.proof.leaf import Run
from opsbus_audit.proof.merkle import HASH_BYTES, Frontier


class Roots:
    """Leaf hashes in the order of the tree against the checkpoints over them."""

    def __init__(self, left: Frontier, checkpoints: Iterable[Checkpoint]) -> None:
        self.frontier = left
        self._due = deque(sorted((one for one in checkpoints if one.size >= left.size), key=lambda one: one.size))
        self.passed = 0
        """Checkpoints that hold."""
        self.finding: Finding | None = None
        self._since: tuple[int, str] | None = None
        """First sequence after the last checkpoint that holds, and its stream."""

    def take(self, run: Run) -> None:
        """The next leaves."""
        at = 0
        while self.finding is None and at < run.leaves:
            if self._since is None:
                self._since = (run.first + at, run.stream)
            end = run.leaves
            if self._due and self._due[0].size - self.frontier.size < end - at:
                end = at + self._due[0].size - self.frontier.size
            self.frontier.extend(run.hashes[at * HASH_BYTES : end * HASH_BYTES])
            at = end
            self._compare(run.first + at - 1)

    def _compare(self, last: int) -> None:
        while self._due and self._due[0].size == self.frontier.size and self.finding is None:
            due = self._due.popleft()
            if due.root == self.frontier.root():
                self.passed += 1
                self._since = None
            else:
                first, stream = self._since or (last, "")
                what = (
                    f"the leaf hashes of the events {first} to {last} do not lead to the root that was signed over"
                    f" {due.size} leaves: one of these events was changed, and its hash with it"
                )
                self.finding = Finding(Kind.ALTERED, first, what, last, stream)

    def end(self, right: Iterable[tuple[int, bytes]]) -> Finding | None:
        """After the last leaf: the subtrees that follow, ``(level, root)``, and the checkpoint over all."""
        for level, root in right:
            if self.finding is None:
                self.frontier.append_perfect(root, level)
                self._compare(0)
        if self.finding is None and self._due:
            what = f"there are {self.frontier.size} leaves, and {self._due[-1].size} were signed"
            self.finding = Finding(Kind.MISSING, 0, what)
        return self.finding
