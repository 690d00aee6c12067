"""The Merkle tree of RFC 6962, section 2: hashes, compact ranges, inclusion and consistency proofs.

Only hashes are here: what a leaf's bytes are is leaf.py's matter, where hashes are kept tree.py's.
"""

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

Subtree = Callable[[int, int], bytes]
"""``(first, last)``: the root over the leaves ``first`` up to, not including, ``last``."""


class ProofError(Exception):
    """A proof does not hold; one line."""


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf's bytes."""
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return sha256(b"\x01" + left + right).digest()


def fold(level: bytes) -> bytes:
    """One level up: the hashes of the pairs in ``level``, an even number of hashes one after the other."""
    return b"".join([sha256(b"\x01" + level[at : at + 64]).digest() for at in range(0, len(level), 64)])


def split(hashes: bytes) -> list[bytes]:
    """Hashes one after the other, as a list."""
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


class Frontier:
    """The compact range of a tree's first ``size`` leaves: the roots of its perfect subtrees, the largest first.

    All that is needed to go on appending, and to know the root; ``64 * 32`` bytes at most.
    """

    __slots__ = ("roots", "size")

    def __init__(self, size: int = 0, roots: Iterable[bytes] = ()) -> None:
        self.size = size
        self.roots = list(roots)
        if len(self.roots) != size.bit_count() or any(len(root) != HASH_BYTES for root in self.roots):
            raise ProofError(f"a frontier of {size} leaves has {size.bit_count()} hashes of {HASH_BYTES} bytes")

    def copy(self) -> "Frontier":
        """An own one."""
        return Frontier(self.size, self.roots)

    def append(self, leaf: bytes, kept: Callable[[int, int, bytes], None] | None = None) -> None:
        """One more leaf hash. ``kept`` is told of every perfect subtree that it completes: level, index, root."""
        self.append_perfect(leaf, 0, kept)

    def append_perfect(self, root: bytes, level: int, kept: Callable[[int, int, bytes], None] | None = None) -> None:
        """A whole perfect subtree of ``2 ** level`` leaves; the size must be a multiple of that."""
        if self.size & ((1 << level) - 1):
            raise ProofError("a subtree can only be appended where one of its size begins")
        index = self.size >> level
        while index & 1:
            root = node_hash(self.roots.pop(), root)
            index >>= 1
            level += 1
            if kept is not None:
                kept(level, index, root)
        self.roots.append(root)
        self.size = (index + 1) << level

    def extend(self, hashes: bytes, kept: Callable[[int, int, bytes], None] | None = None) -> None:
        """Leaf hashes, one after the other. Perfect subtrees of them are folded level by level, which is quicker;
        ``kept`` is told of all that are as high as such a subtree may be, or higher, and of some of the lower ones."""
        at, (left, rest) = 0, divmod(len(hashes), HASH_BYTES)
        if rest:
            raise ProofError(f"a hash has {HASH_BYTES} bytes")
        while left:
            # The highest subtree that begins here and ends before the leaves do.
            lowest_bit = (self.size & -self.size) or _FOLDED
            height = min(lowest_bit, _FOLDED, 1 << (left.bit_length() - 1)).bit_length() - 1
            leaves = 1 << height
            part = hashes[at : at + leaves * HASH_BYTES]
            for _ in range(height):
                part = fold(part)
            if kept is not None and height:
                kept(height, self.size >> height, part)
            self.append_perfect(part, height, kept)
            at += leaves * HASH_BYTES
            left -= leaves

    def root(self) -> bytes:
        """The tree's root."""
        if not self.roots:
            return EMPTY_ROOT
        found = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            found = node_hash(left, found)
        return found

    def dump(self) -> bytes:
        """The hashes, one after the other."""
        return b"".join(self.roots)

    @classmethod
    def load(cls, size: int, dumped: bytes) -> "Frontier":
        """What ``dump`` gave.

        Raises:
            ProofError: these are not the hashes of so many leaves.
        """
        return cls(size, split(dumped))


_FOLDED = 1 << 8
"""Leaves that are folded at once, at most."""


def largest_power_below(size: int) -> int:
    """The largest power of two that is less than ``size`` (of at least two)."""
    return 1 << ((size - 1).bit_length() - 1)


def perfect_parts(first: int, last: int) -> list[tuple[int, int]]:
    """``(level, index)`` of the perfect subtrees that together are the leaves ``first`` up to ``last``, in order."""
    found: list[tuple[int, int]] = []
    while first < last:
        most = (last - first).bit_length() - 1
        level = min(most, (first & -first).bit_length() - 1) if first else most
        found.append((level, first >> level))
        first += 1 << level
    return found


def inclusion_proof(index: int, size: int, subtree: Subtree) -> list[bytes]:
    """The audit path of a leaf in the tree of ``size`` leaves (RFC 6962, 2.1.1).

    Raises:
        ProofError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    path: list[bytes] = []
    first, last = 0, size
    while last - first > 1:
        middle = first + largest_power_below(last - first)
        if index < middle:
            path.append(subtree(middle, last))
            last = middle
        else:
            path.append(subtree(first, middle))
            first = middle
    return path[::-1]


def consistency_proof(old: int, new: int, subtree: Subtree) -> list[bytes]:
    """That the first ``old`` leaves of the tree of ``new`` are the tree it was (RFC 6962, 2.1.2).

    Raises:
        ProofError: the sizes do not go together.
    """
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} was never one of {old}")
    if old in (0, new):
        return []
    path: list[bytes] = []
    first, last, whole = 0, new, True
    while old < last:
        middle = first + largest_power_below(last - first)
        if old <= middle:
            path.append(subtree(middle, last))
            last = middle
        else:
            path.append(subtree(first, middle))
            first, whole = middle, False
    if not whole:
        path.append(subtree(first, last))
    return path[::-1]


def root_from_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that the path leads to (RFC 9162, 2.1.3.2).

    Raises:
        ProofError: the path has not the length or form of one for this leaf.
    """
    _check_hashes(leaf, *proof)
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    found, at, last = leaf, index, size - 1
    for hash_ in proof:
        if last == 0:
            raise ProofError("the inclusion proof is too long")
        if at & 1 or at == last:
            found = node_hash(hash_, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, hash_)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the inclusion proof is too short")
    return found


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """That a leaf hash is the ``index``-th of the tree with this root.

    Raises:
        ProofError: it does not follow.
    """
    if root_from_inclusion(index, size, leaf, proof) != root:
        raise ProofError(f"leaf {index} is not under the root of the tree of {size}")


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """That the tree with ``new_root`` begins with the one of ``old_root`` (RFC 9162, 2.1.4.2).

    Raises:
        ProofError: it does not follow: one of them is a fork, or the proof is wrong.
    """
    _check_hashes(old_root, new_root, *proof)
    if not 0 <= old <= new:
        raise ProofError(f"a tree of {new} was never one of {old}")
    if old in (0, new):
        if proof:
            raise ProofError("a consistency proof of nothing has no hashes")
        if old == new and old_root != new_root:
            raise ProofError(f"two different trees of {old} leaves")
        if old == 0 and old_root != EMPTY_ROOT:
            raise ProofError("the empty tree has another root")
        return
    if not proof:
        raise ProofError("the consistency proof is empty")
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    was = found = path[0]
    for hash_ in path[1:]:
        if last == 0:
            raise ProofError("the consistency proof is too long")
        if at & 1 or at == last:
            was, found = node_hash(hash_, was), node_hash(hash_, found)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, hash_)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofError("the consistency proof is too short")
    if was != old_root or found != new_root:
        raise ProofError(f"the tree of {new} does not begin with the tree of {old}: the log was forked")


def _check_hashes(*hashes: bytes) -> None:
    if any(len(hash_) != HASH_BYTES for hash_ in hashes):
        raise ProofError(f"a hash has {HASH_BYTES} bytes")
