"""Files into checked lines, every mistake with its file and line. Nothing is written here."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast, get_args

from pydantic import ValidationError

from opsbus.toolerror import near
from opsbus_cmdb.transfer.records import LINES, MAPS, AssetLine, Kind, Line, RelationshipLine, WindowLine, fields

FILE_BYTES_MAX = 512 * 1024 * 1024
MISTAKES_MAX = 100
CELL_CHARACTERS_MAX = 131_072
_NO_KIND = "the first line names neither ref (assets), nor from and to (relationships), nor id, start and end (windows)"
R = TypeVar("R", AssetLine, RelationshipLine, WindowLine)
_KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and where: `assets.csv:17: status: ...`."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


class TransferError(Exception):
    """The files cannot be imported; the mistakes say why. Nothing was written."""

    def __init__(self, mistakes: list[Mistake], more: bool = False) -> None:
        super().__init__(str(mistakes[0]))
        self.mistakes = mistakes
        self.more = more
        """There are more than are listed."""


@dataclass(frozen=True)
class Read(Generic[R]):
    """A checked line and where it stood."""

    record: R
    file: str
    line: int


@dataclass
class Given:
    """Everything the files say."""

    assets: list[Read[AssetLine]] = field(default_factory=list)
    relationships: list[Read[RelationshipLine]] = field(default_factory=list)
    windows: list[Read[WindowLine]] = field(default_factory=list)

    def add(self, record: Line, file: str, line: int) -> None:
        """Put a line where it belongs."""
        if isinstance(record, AssetLine):
            self.assets.append(Read(record, file, line))
        elif isinstance(record, RelationshipLine):
            self.relationships.append(Read(record, file, line))
        else:
            self.windows.append(Read(record, file, line))


class Mistakes:
    """Collects what is wrong, up to a bound."""

    def __init__(self) -> None:
        self.found: list[Mistake] = []

    def add(self, file: str, line: int, what: str) -> None:
        """Note one.

        Raises:
            TransferError: there are enough.
        """
        self.found.append(Mistake(file, line, what))
        if len(self.found) >= MISTAKES_MAX:
            raise TransferError(self.found, more=True)

    def check(self) -> None:
        """Raises:
        TransferError: there is one.
        """
        if self.found:
            raise TransferError(self.found)


def read_files(paths: list[Path]) -> Given:
    """Read and check files.

    Raises:
        TransferError: with every mistake found, up to 100.
        OSError: a file cannot be read.
    """
    given, mistakes = Given(), Mistakes()
    first: dict[tuple[str, ...], str] = {}
    for path in paths:
        for kind, line, raw in _lines(path, mistakes):
            record = _checked(kind, raw, path.name, line, mistakes)
            if record is None:
                continue
            here = f"{path.name}:{line}"
            earlier = first.setdefault((kind, *_key(record)), here)
            if earlier is not here:
                mistakes.add(path.name, line, f"the same as {earlier}: {' '.join(_key(record))}")
                continue
            given.add(record, path.name, line)
    mistakes.check()
    return given


def _key(record: Line) -> tuple[str, ...]:
    if isinstance(record, AssetLine):
        return (record.ref,)
    if isinstance(record, RelationshipLine):
        return (record.from_, record.type.value, record.to)
    return (record.id,)


def _lines(path: Path, mistakes: Mistakes) -> Iterator[tuple[Kind, int, dict[str, Any]]]:
    if path.suffix.lower() not in {".csv", ".json"}:
        mistakes.add(path.name, 1, "a file ends in .csv or .json")
        return
    if path.stat().st_size > FILE_BYTES_MAX:
        mistakes.add(path.name, 1, f"larger than {FILE_BYTES_MAX // 1024**2} MiB: import it in parts")
        return
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = path.read_bytes()[: error.start]
        mistakes.add(path.name, before.count(b"\n") + 1, "not UTF-8")
        return
    yield from (_csv if path.suffix.lower() == ".csv" else _json)(text, path.name, mistakes)


def _csv(text: str, file: str, mistakes: Mistakes) -> Iterator[tuple[Kind, int, dict[str, Any]]]:
    csv.field_size_limit(CELL_CHARACTERS_MAX)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    kind: Kind = "assets"
    while True:
        line = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            mistakes.add(file, max(rows.line_num, line), f"no CSV: {error}")
            return
        if header is None:
            header = [cell.strip() for cell in cells]
            known = _kind_of(header)
            if known is None or not _columns(known, header, file, line, mistakes):
                if known is None:
                    mistakes.add(file, line, _NO_KIND)
                return
            kind = known
        elif any(cell.strip() for cell in cells):
            if len(cells) != len(header):
                mistakes.add(file, line, f"{len(cells)} cells, and {len(header)} columns")
                continue
            yield kind, line, _row(kind, header, cells)
    if header is None:
        mistakes.add(file, 1, "the file is empty")


def _kind_of(header: list[str]) -> Kind | None:
    named = set(header)
    if {"from", "to"} <= named:
        return "relationships"
    if "ref" in named:
        return "assets"
    return "windows" if {"id", "start", "end"} <= named else None


def _columns(kind: Kind, header: list[str], file: str, line: int, mistakes: Mistakes) -> bool:
    plain = [name for name in fields(kind) if name not in MAPS[kind].values()]
    fine = True
    for place, name in enumerate(header):
        mapped = any(name.startswith(prefix) and len(name) > len(prefix) for prefix in MAPS[kind])
        if name in header[:place]:
            mistakes.add(file, line, f"two columns are called {name!r}")
        elif not mapped and name not in plain:
            hint = near(name, plain)
            meant = f"; did you mean {', '.join(hint)}?" if hint else f"; {kind} have {', '.join(plain)}"
            mistakes.add(file, line, f"unknown column {name!r}{meant}")
        else:
            continue
        fine = False
    return fine


def _row(kind: Kind, header: list[str], cells: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for prefix, name in MAPS[kind].items():
        if any(column.startswith(prefix) for column in header):
            row[name] = {}
    for column, cell in zip(header, cells, strict=True):
        value = cell.strip()
        if not value:
            continue  # an empty cell says nothing
        start = next((known for known in MAPS[kind] if column.startswith(known)), "")
        if not start:
            row[column] = value
        else:
            row[MAPS[kind][start]][column.removeprefix(start)] = value if start != "attribute." else _typed(value)
    return row


def _typed(cell: str) -> Any:
    """An attribute that is JSON is that value; anything else is text."""
    try:
        return json.loads(cell, parse_constant=_as_text)
    except (ValueError, RecursionError):
        return cell


def _as_text(name: str) -> Any:
    raise ValueError(name)


def _json(text: str, file: str, mistakes: Mistakes) -> Iterator[tuple[Kind, int, dict[str, Any]]]:
    """The records of ``{"assets": [...], "relationships": [...], "windows": [...]}``, each with the line it begins."""
    scan = _Scan(text)
    try:
        scan.expect("{")
        while not scan.ends("}"):
            key = scan.value()
            scan.expect(":")
            if key not in _KINDS:
                mistakes.add(file, scan.line(), f"unknown key {key!r}: a file has {', '.join(_KINDS)}")
                scan.value()
                continue
            scan.expect("[")
            while not scan.ends("]"):
                line = scan.line()
                found = scan.value()
                if isinstance(found, dict):
                    yield cast(Kind, key), line, found
                else:
                    mistakes.add(file, line, f"an entry of {key} is an object")
        scan.nothing_more()
    except json.JSONDecodeError as error:
        mistakes.add(file, error.lineno, f"no JSON: {error.msg}")
    except RecursionError:
        mistakes.add(file, scan.line(), "nested too deeply")


class _Scan:
    """Goes through a JSON text value by value, knowing the line it is in."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = (0, 1)
        self._decoder = json.JSONDecoder(parse_constant=self._no_constant)

    def line(self) -> int:
        """Where the next value begins."""
        self._skip()
        at, line = self._counted
        self._counted = (self._at, line + self._text.count("\n", at, self._at))
        return self._counted[1]

    def value(self) -> Any:
        """The next value."""
        self._skip()
        found, self._at = self._decoder.raw_decode(self._text, self._at)
        return found

    def expect(self, mark: str) -> None:
        """Pass a mark."""
        self._skip()
        if not self._text.startswith(mark, self._at):
            raise json.JSONDecodeError(f"expecting {mark!r}", self._text, self._at)
        self._at += 1

    def ends(self, mark: str) -> bool:
        """Pass the closing mark, or the comma before another value."""
        self._skip()
        if self._text.startswith(mark, self._at):
            self._at += 1
            return True
        if self._needs_comma():
            self.expect(",")
        return False

    def nothing_more(self) -> None:
        """The text ends here."""
        self._skip()
        if self._at != len(self._text):
            raise json.JSONDecodeError("more text after the end", self._text, self._at)

    def _needs_comma(self) -> bool:
        back = self._at - 1
        while back > 0 and self._text[back] in " \t\r\n":
            back -= 1
        return self._text[back] not in "[{"

    def _no_constant(self, name: str) -> Any:
        raise json.JSONDecodeError(f"{name} is no JSON", self._text, self._at)

    def _skip(self) -> None:
        while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
            self._at += 1


def _checked(kind: Kind, raw: dict[str, Any], file: str, line: int, mistakes: Mistakes) -> Line | None:
    if _has_nul(raw):
        mistakes.add(file, line, "a text with the character NUL, which no database takes")
        return None
    try:
        return LINES[kind].model_validate(raw)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            where = ".".join(str(part) for part in fault["loc"])
            what = fault["msg"].removeprefix("Value error, ")
            if fault["type"] == "extra_forbidden":
                meant = near(where, fields(kind))
                what = "unknown field" + (f"; did you mean {', '.join(meant)}?" if meant else "")
            mistakes.add(file, line, f"{where}: {what}" if where else what)
        return None


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)
