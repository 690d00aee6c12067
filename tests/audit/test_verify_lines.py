"""Lines of an export: the quick reader says what the exact one says, and processes say what one says."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opsbus_audit.proof import bundle, hashing, piece
from opsbus_audit.proof.bundle import BundleError
from opsbus_audit.proof.hashing import Hashing
from opsbus_audit.proof.leaf import UNREADABLE, Event, leaf_of
from opsbus_audit.proof.line import hash_lines, line, parse_line, parse_lines
from opsbus_audit.proof.match import Chunk

EVENT = Event(17, 1_780_000_000_123_456_789, "audit.edge.completed", "edge-1-17", b'{"data":{"seq":1}}')
WELL = line(EVENT)


def exactly(text: bytes) -> tuple[list[int], bytes]:
    """Each line by itself, by the reader that decides."""
    events = [parse_line(one) for one in text.removesuffix(b"\n").split(b"\n")] if text else []
    assert events == parse_lines(text)
    hashes = b"".join(bytes(32) if event is None else leaf_of(*event) for event in events)
    return [UNREADABLE if event is None else event.sequence for event in events], hashes


texts = st.text(max_size=20) | st.text(st.characters(codec="ascii"), max_size=300)
events = st.builds(
    Event,
    st.integers(1, (1 << 64) - 1),
    st.integers(0, (1 << 64) - 1),
    texts,
    texts | st.just("half \udc80 a pair"),
    st.binary(max_size=60),
)


@settings(deadline=None)
@given(events)
def test_what_is_written_is_read(event: Event) -> None:
    text = line(event)
    assert parse_line(text) == event
    assert hash_lines(text) == ([event.sequence], leaf_of(*event))


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_the_quick_reader_says_what_the_exact_one_says(data: st.DataObject) -> None:
    text = bytearray(b"".join(line(event) for event in data.draw(st.lists(events, max_size=3))) or WELL)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text)))
        with_ = data.draw(
            st.sampled_from([b"", b'"', b"\\", b"\n", b"=", b" ", b"0", b"-", b"}", b"\xc3\xa9", b"A", b"\0"])
        )
        text[at : at + data.draw(st.integers(0, 2))] = with_
    assert hash_lines(bytes(text)) == exactly(bytes(text))


ODD = [b"", b'"', b"\\", b"\n", b"=", b" ", b"0", b"-", b"}", b"\xc3\xa9", b"A", b"\0"]
LINES: dict[str, tuple[bytes, bool]] = {
    "as written": (WELL, True),
    "without the newline": (WELL[:-1], True),
    "other spaces": (json.dumps(json.loads(WELL)).encode() + b"\n", True),
    "other order": (json.dumps(dict(reversed(json.loads(WELL).items()))).encode() + b"\n", True),
    "carriage return": (WELL[:-1] + b"\r\n", True),
    "more keys": (WELL.replace(b'"}\n', b'","more":1}\n'), True),
    "escaped": (WELL.replace(b"audit.edge", b"audit\\u002eedge"), True),
    "another time zone": (WELL.replace(b'Z","id"', b'+00:00","id"'), True),
    "key twice": (WELL.replace(b'{"seq":17,', b'{"seq":16,"seq":17,'), True),
    "data twice": (WELL.replace(b'"data":"', b'"data":"e30=","data":"'), True),
    "no month": (WELL.replace(b"2026-", b"2026-13-")[:-1] + b"\n", False),
    "thirteenth month": (WELL.replace(b"-05-", b"-13-"), False),
    "before 1970": (WELL.replace(b'"2026', b'"1969'), False),
    "after what fits": (WELL.replace(b'"2026', b'"9999'), False),
    "sequence 0": (WELL.replace(b":17,", b":0,"), False),
    "sequence of 65 bits": (WELL.replace(b":17,", b":18446744073709551616,"), False),
    "leading zero": (WELL.replace(b":17,", b":017,"), False),
    "sequence as text": (WELL.replace(b":17,", b':"17",'), False),
    "no base64": (WELL.replace(b'"data":"', b'"data":"*'), False),
    "padding in the middle": (WELL.replace(b'"data":"', b'"data":"e30='), False),
    "no padding": (WELL.replace(b'"data":"eyJk', b'"data":"eyJ'), False),
    "cut": (WELL[:-9] + b"\n", False),
    "nested deep": (b"[" * 200_000 + b"\n", False),
    "empty": (b"\n", False),
}


@pytest.mark.parametrize("what", LINES)
def test_lines_out_of_the_ordinary(what: str) -> None:
    text, fine = LINES[what]
    assert hash_lines(text + WELL) == exactly(text + WELL)
    sequences, hashes = hash_lines(text)
    assert (sequences, hashes) == (([17], leaf_of(*EVENT)) if fine else ([UNREADABLE], bytes(32)))


def test_a_subject_counts_as_far_as_the_store_keeps_it() -> None:
    for subject in ("s" * 256, "s" * 257, "é" * 300):
        event = EVENT._replace(subject=subject)
        assert hash_lines(line(event)) == ([17], leaf_of(*event))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Lines of many lengths; one is no event, one has the highest number there is."""
    lines = [line(EVENT._replace(sequence=n, data=b"x" * (n * 37 % 400))) for n in range(1, 400)]
    lines[200] = b"no event\n"
    lines[300] = line(EVENT._replace(sequence=(1 << 64) - 1))
    path = tmp_path / bundle.EVENTS
    path.write_bytes(b"".join(lines))
    return path


def all_of(chunks: list[Chunk]) -> tuple[list[int], bytes]:
    return [one for chunk in chunks for one in chunk.sequences], b"".join(chunk.hashes for chunk in chunks)


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("piece_bytes", [100, 997, 10_000, 1 << 20])
def test_pieces_together_are_the_file(file: Path, processes: int, piece_bytes: int) -> None:
    with Hashing(file, processes, piece_bytes) as made:
        chunks = list(made.chunks())
    assert all_of(chunks) == exactly(file.read_bytes())
    assert [one for chunk in chunks for one in chunk.events()] == parse_lines(file.read_bytes())


def test_no_process_is_left_behind(file: Path) -> None:
    """The caller leaves while the helpers have more to say than a pipe holds."""
    file.write_bytes(file.read_bytes() * 200)
    with Hashing(file, 2, 10_000) as made:
        next(made.chunks())
        helpers = list(made._helpers)
        assert [helper.poll() for helper in helpers] == [None, None]
    assert all(helper.returncode is not None for helper in helpers)


def test_a_killed_process_is_told(file: Path) -> None:
    file.write_bytes(file.read_bytes() * 200)
    with Hashing(file, 2, 10_000) as made:
        chunks = made.chunks()
        next(chunks)
        os.kill(made._helpers[1].pid, signal.SIGKILL)
        with pytest.raises(BundleError, match="was ended"):
            list(chunks)


def test_a_file_that_cannot_be_read_is_told(file: Path) -> None:
    with Hashing(file, 1) as made:
        file.unlink()
        with pytest.raises(BundleError, match=r"events.ndjson cannot be read"):
            list(made.chunks())
    with pytest.raises(BundleError, match=r"events.ndjson cannot be read"):
        Hashing(file, 2)
    done = subprocess.run(
        [sys.executable, "-m", "opsbus_audit.proof.piece", str(file), "100", "10", "0", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr


def test_half_of_what_was_sent_is_nothing(tmp_path: Path, file: Path) -> None:
    for hashed in (piece.hash_piece(file, 0, 3_000), piece.hash_piece(file, 0, 1 << 20)):
        sent = tmp_path / "sent"
        with sent.open("wb") as out:
            piece.send(hashed, out)
        whole = sent.read_bytes()
        with sent.open("rb") as source:
            assert piece.receive(source) == hashed
            assert piece.receive(source) is None
        for cut in (0, 5, 20, len(whole) - 1):
            sent.write_bytes(whole[:cut])
            with sent.open("rb") as source:
                assert piece.receive(source) is None


def test_nothing_is_imported_from_the_current_folder(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export is verified where it lies; what was put beside it is not run."""
    (tmp_path / "orjson.py").write_text("raise SystemExit('run')")
    (tmp_path / "binascii.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *(one for one in sys.path if one)])
    with Hashing(Path(file.name), 2, 10_000) as made:
        assert all_of(list(made.chunks())) == exactly(file.read_bytes())


def test_a_helper_imports_little() -> None:
    """It is there in a moment: no pydantic, no cryptography, no typer."""
    program = "import sys, opsbus_audit.proof.piece; print(*{'pydantic', 'cryptography', 'typer'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_small_file_starts_no_process(file: Path) -> None:
    assert file.stat().st_size < hashing.SMALL_BYTES
    with Hashing(file, 0) as made:
        assert made._helpers == []
