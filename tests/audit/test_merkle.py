"""The tree, its proofs and notes against published values and against RFC 6962's own definitions, written naively."""

import base64
import io
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from opsbus_audit.proof import merkle
from opsbus_audit.proof.checkpoint import Checkpoint, Entry, frame, open_checkpoint, read_entries
from opsbus_audit.proof.leaf import leaf_of
from opsbus_audit.proof.merkle import Frontier, ProofError
from opsbus_audit.proof.note import COSIGNATURE, Note, NoteError, SigningKey, VerifierKey, sign

VECTORS = Path(__file__).parent / "vectors"
RFC: dict[str, Any] = json.loads((VECTORS / "rfc6962.json").read_text())
NOTES: dict[str, Any] = json.loads((VECTORS / "notes.json").read_text())
b64 = base64.b64decode


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = naive_split(len(leaves))
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of 2.1.1."""
    if len(leaves) == 1:
        return []
    k = naive_split(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of 2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = naive_split(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


def naive_split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def tree(leaves: list[bytes]) -> Frontier:
    made = Frontier()
    made.extend(b"".join(merkle.leaf_hash(leaf) for leaf in leaves))
    return made


def test_published_hashes() -> None:
    assert RFC["empty_root"] == merkle.EMPTY_ROOT.hex() == Frontier().root().hex()
    for case in RFC["leaf_hashes"]:
        assert merkle.leaf_hash(bytes.fromhex(case["leaf"])).hex() == case["hash"]
    for case in RFC["node_hashes"]:
        assert merkle.node_hash(bytes.fromhex(case["left"]), bytes.fromhex(case["right"])).hex() == case["hash"]


def test_the_published_tree() -> None:
    leaves = [bytes.fromhex(leaf) for leaf in RFC["leaves"]]
    kept: dict[tuple[int, int], str] = {}
    grown = Frontier()
    for number, leaf in enumerate(leaves):
        kept[0, number] = merkle.leaf_hash(leaf).hex()
        grown.append(merkle.leaf_hash(leaf), lambda level, index, root: kept.update({(level, index): root.hex()}))
        assert grown.root().hex() == RFC["roots"][number]
    assert kept == {(level, index): root for level, row in enumerate(RFC["perfect"]) for index, root in enumerate(row)}


@pytest.mark.parametrize(("size", "root"), RFC["golden"])
def test_published_roots_of_large_trees(size: int, root: str) -> None:
    assert tree([number.to_bytes(2, "little") for number in range(size)]).root() == b64(root)


@pytest.mark.parametrize("case", RFC["inclusion"])
def test_published_inclusion_proofs(case: dict[str, Any]) -> None:
    def check() -> None:
        proof = [b64(hash_) for hash_ in case["proof"]]
        merkle.verify_inclusion(case["leafIdx"], case["treeSize"], b64(case["leafHash"]), proof, b64(case["root"]))

    if case["wantErr"]:
        with pytest.raises(ProofError):
            check()
    else:
        check()


@pytest.mark.parametrize("case", RFC["consistency"])
def test_published_consistency_proofs(case: dict[str, Any]) -> None:
    old, new, proof = case["size1"], case["size2"], [b64(hash_) for hash_ in case["proof"]]
    roots = b64(case["root1"]), b64(case["root2"])
    merkle.verify_consistency(old, new, *roots, proof)
    leaves = [bytes.fromhex(leaf) for leaf in RFC["leaves"]]
    assert merkle.consistency_proof(old, new, lambda first, last: naive_root(leaves[first:last])) == proof
    # What Go's tests do to each of them, and must be refused.
    wrong: list[tuple[int, int, bytes, bytes, list[bytes]]] = [
        (old - 1, new, *roots, proof), (old + 1, new, *roots, proof), (old ^ 2, new, *roots, proof),
        (old, new * 2, *roots, proof), (old, new // 2, *roots, proof),
        (old, new, b"WrongRoot", roots[1], proof), (old, new, roots[0], b"WrongRoot", proof),
        (old, new, roots[1], roots[0], proof), (old, new, *roots, []),
        (old, new, *roots, [*proof, b""]), (old, new, *roots, [*proof, roots[0]]),
        (old, new, *roots, [roots[1], *proof]),
        (old, new, *roots, proof[:-1]),
    ]  # fmt: skip
    for number in range(len(proof)):
        flipped = bytes([proof[number][0] ^ 16]) + proof[number][1:]
        wrong.append((old, new, *roots, [*proof[:number], flipped, *proof[number + 1 :]]))
    for arguments in wrong:
        with pytest.raises(ProofError):
            merkle.verify_consistency(*arguments)


LEAVES = st.lists(st.binary(max_size=4), min_size=1, max_size=70)


@given(LEAVES, st.data())
def test_inclusion_is_what_the_rfc_says(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.inclusion_proof(index, len(leaves), lambda first, last: naive_root(leaves[first:last]))
    assert path == naive_path(index, leaves)
    leaf, root = merkle.leaf_hash(leaves[index]), naive_root(leaves)
    merkle.verify_inclusion(index, len(leaves), leaf, path, root)
    other = data.draw(st.integers(0, len(leaves) - 1))
    if leaves[other] != leaves[index]:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(index, len(leaves), merkle.leaf_hash(leaves[other]), path, root)
    if path:
        number, bit = data.draw(st.integers(0, len(path) - 1)), data.draw(st.integers(0, 255))
        path[number] = (int.from_bytes(path[number], "big") ^ (1 << bit)).to_bytes(32, "big")
        with pytest.raises(ProofError):
            merkle.verify_inclusion(index, len(leaves), leaf, path, root)


@given(LEAVES, st.data())
def test_consistency_is_what_the_rfc_says(leaves: list[bytes], data: st.DataObject) -> None:
    old = data.draw(st.integers(1, len(leaves)))
    path = merkle.consistency_proof(old, len(leaves), lambda first, last: naive_root(leaves[first:last]))
    assert path == naive_subproof(old, leaves, True)
    merkle.verify_consistency(old, len(leaves), naive_root(leaves[:old]), naive_root(leaves), path)
    forked = [*leaves]
    at = data.draw(st.integers(0, old - 1))
    forked[at] = forked[at] + b"!"
    with pytest.raises(ProofError):
        merkle.verify_consistency(old, len(leaves), naive_root(forked[:old]), naive_root(leaves), path)


@settings(max_examples=60)
@given(st.integers(0, 1_100), st.lists(st.integers(0, 700), max_size=4))
def test_a_frontier_grown_in_any_steps_has_the_same_root(size: int, cuts: list[int]) -> None:
    leaves = [number.to_bytes(2, "big") for number in range(size)]
    hashes = b"".join(merkle.leaf_hash(leaf) for leaf in leaves)
    kept: dict[tuple[int, int], bytes] = {}
    grown, at = Frontier(), 0
    for cut in [*sorted(min(cut, size) for cut in cuts), size]:
        grown = Frontier.load(grown.size, grown.dump())
        grown.extend(hashes[at * 32 : cut * 32], lambda level, index, root: kept.update({(level, index): root}))
        at = cut
    assert grown.size == size
    assert grown.root() == naive_root(leaves)
    for level, index in kept.keys() & {(8, number) for number in range(8)}:
        assert kept[level, index] == naive_root(leaves[index << level : (index + 1) << level])
    assert {index for level, index in kept if level == 8} == set(range(size >> 8))


@given(st.integers(0, 300), st.integers(0, 300))
def test_perfect_parts_cover_a_range_once(one: int, other: int) -> None:
    first, last = sorted((one, other))
    parts = merkle.perfect_parts(first, last)
    assert [n for level, index in parts for n in range(index << level, (index + 1) << level)] == [*range(first, last)]


EVENT = st.tuples(
    st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.text(max_size=9), st.text(max_size=9), st.binary()
)


@given(EVENT, EVENT)
def test_different_events_have_different_leaves(one: Any, other: Any) -> None:
    assert (leaf_of(*one) == leaf_of(*other)) == (one == other)


def test_a_leaf_is_what_the_documentation_says() -> None:
    head = b"\x00opsbus.audit.leaf.v1\n" + (7).to_bytes(8, "big") + (9).to_bytes(8, "big")
    whole = head + b"\x00\x00\x00\x03a.b" + b"\x00\x00\x00\x02id" + b"{}"
    assert leaf_of(7, 9, "a.b", "id", b"{}") == sha256(whole).digest()


@pytest.mark.parametrize("case", NOTES["signed"])
def test_published_notes(case: dict[str, Any]) -> None:
    key = VerifierKey.parse(case["key"])
    assert str(key) == case["key"]
    note = Note.parse(f"{case['text']}\n{case['signature']}")
    note.require(key)
    with pytest.raises(NoteError):
        Note(case["text"].replace("is", "was"), note.signatures).require(key)
    if "secret" in case:
        mine = SigningKey(key.name, Ed25519PrivateKey.from_private_bytes(b64(case["secret"])[1:]))
        assert str(sign(case["text"], [mine])) == str(note)


@pytest.mark.parametrize("text", NOTES["keys"])
def test_published_keys(text: str) -> None:
    assert str(VerifierKey.parse(text)) == text
    with pytest.raises(NoteError):
        VerifierKey.parse(text.replace("+", "x+", 1))


@pytest.mark.parametrize("wrong", ["", "a", "a+b", "a b+00000000+AAAA", "a+00000000+AAAA", "a+00000000+%%%", "+1+2"])
def test_what_is_no_key(wrong: str) -> None:
    with pytest.raises(NoteError):
        VerifierKey.parse(wrong)


def test_cosignatures_say_when_and_hold() -> None:
    log = SigningKey("log.example/a", Ed25519PrivateKey.generate())
    witness = SigningKey("witness.example/w", Ed25519PrivateKey.generate(), COSIGNATURE)
    note = Checkpoint("log.example/a", 3, b"\x07" * 32).signed(log).signed(witness)
    assert note.verified([witness.public, log.public]) == [log.public, witness.public]
    # As C2SP tlog-cosignature has it, byte for byte.
    blob = b64(note.signatures.splitlines()[1].split(" ")[2])
    stamp = int.from_bytes(blob[4:12], "big")
    assert blob[:4] == sha256(b"witness.example/w\n\x04" + witness.public.raw).digest()[:4]
    witness.private.public_key().verify(blob[12:], f"cosignature/v1\ntime {stamp}\n{note.text}".encode())
    found, _ = open_checkpoint(str(note), log.public)
    assert found == Checkpoint("log.example/a", 3, b"\x07" * 32)
    with pytest.raises(NoteError, match="does not hold"):
        Note(note.text.replace("3", "4", 1), note.signatures).verified([witness.public])
    other = SigningKey("log.example/b", log.private)
    with pytest.raises(NoteError, match="is of"):
        open_checkpoint(str(Checkpoint("log.example/a", 3, b"\x07" * 32).signed(other)), other.public)


@pytest.mark.parametrize(
    "text", ["o\n1\n", "o\n01\nAAAA\n", "o\n-1\nAAAA\n", "o\n1\nAAAA\n", "\n1\n" + "A" * 43 + "=\n", "o\n1\n%\n"]
)
def test_what_is_no_checkpoint(text: str) -> None:
    with pytest.raises(NoteError):
        Checkpoint.of(sign(text, [SigningKey("o", Ed25519PrivateKey.generate())]))


@given(st.binary(max_size=300))
def test_no_bytes_break_the_reader(data: bytes) -> None:
    for read in (lambda: Note.parse(data), lambda: list(read_entries(io.BytesIO(data)))):
        try:
            read()
        except NoteError:
            continue


def test_entries_follow_each_other_in_a_file() -> None:
    key = SigningKey("o", Ed25519PrivateKey.generate())
    entries = [
        Entry(n, (b"\x01" * 32,) * (n % 3), Checkpoint("o", n + 1, bytes([n] * 32)).signed(key)) for n in range(9)
    ]
    written = b"".join(frame(entry) for entry in entries)
    assert list(read_entries(io.BytesIO(written))) == entries
    # One that is being written now is not there yet.
    for cut in range(1, len(frame(entries[-1]))):
        assert list(read_entries(io.BytesIO(written[:-cut]))) == entries[:-1], cut
