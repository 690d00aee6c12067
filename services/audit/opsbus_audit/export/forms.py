"""The files of an export, each written as events come, in constant memory."""

import csv
import hashlib
import importlib.util
import io
import os
from pathlib import Path
from typing import Any, Protocol

import orjson

from opsbus_audit.export.flat import COLUMNS, NUMERIC, flat
from opsbus_audit.export.ocsf import ocsf
from opsbus_audit.ordered import Recorded
from opsbus_audit.proof.line import line
from opsbus_audit.proof.live import event_of

EVENTS = "events.ndjson"
"""The exact bytes: the form that can be verified; every export has it."""

NAMES = {"csv": "events.csv", "ocsf": "ocsf.ndjson", "parquet": "events.parquet"}
_ROWS = 5_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A cell that begins so is a formula to a spreadsheet."""


def has_parquet() -> bool:
    """Whether pyarrow is installed."""
    return importlib.util.find_spec("pyarrow") is not None


class File:
    """A new file, readable for its owner alone, whose digest is known at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = 0
        self._digest = hashlib.sha256()
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def write(self, data: bytes) -> int:
        """Write on."""
        self._digest.update(data)
        self.bytes += len(data)
        return self._file.write(data)

    def close(self) -> None:
        """To the disk, and close."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    @property
    def closed(self) -> bool:
        """Whether it is."""
        return self._file.closed

    @property
    def sha256(self) -> str:
        """Hex digest of all that was written."""
        return self._digest.hexdigest()


class Form(Protocol):
    """One file of an export."""

    name: str

    def add(self, recorded: Recorded, event: Any) -> None:
        """One event; ``event`` is None where the bytes are none."""
        ...

    def close(self) -> dict[str, Any]:
        """Finish the file; its facts for the manifest."""
        ...


class Lines:
    """NDJSON: exact bytes, or OCSF."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._file = File(folder / name)
        self._count = 0

    def add(self, recorded: Recorded, event: Any) -> None:
        """One line; OCSF has none for what is no event."""
        if self.name == EVENTS:
            self._file.write(line(event_of(recorded)))
        elif event is None:
            return
        else:
            self._file.write(orjson.dumps(ocsf(recorded, event)) + b"\n")
        self._count += 1

    def close(self) -> dict[str, Any]:
        """Finish."""
        self._file.close()
        return {"sha256": self._file.sha256, "bytes": self._file.bytes, "events": self._count}


class Csv:
    """A table for a spreadsheet: RFC 4180, UTF-8 with a mark. No cell is a formula."""

    def __init__(self, folder: Path) -> None:
        self.name = NAMES["csv"]
        self._file = File(folder / self.name)
        self._file.write(b"\xef\xbb\xbf")
        self._text = io.StringIO(newline="")
        self._writer = csv.DictWriter(self._text, COLUMNS, restval="")
        self._writer.writeheader()
        self._count = 0

    def add(self, recorded: Recorded, event: Any) -> None:
        """One row."""
        self._writer.writerow({name: cell(value) for name, value in flat(recorded, event).items()})
        self._count += 1
        if self._count % _ROWS == 0:
            self._flush()

    def close(self) -> dict[str, Any]:
        """Finish."""
        self._flush()
        self._file.close()
        return {"sha256": self._file.sha256, "bytes": self._file.bytes, "events": self._count}

    def _flush(self) -> None:
        self._file.write(self._text.getvalue().encode("utf-8", "replace"))
        self._text.seek(0)
        self._text.truncate()


def cell(value: Any) -> Any:
    """A value that no spreadsheet takes for a formula: an apostrophe says that it is text."""
    if isinstance(value, str) and value.lstrip(" ").startswith(_FORMULA):
        return f"'{value}"
    return value


class Parquet:
    """A table for analysis; needs pyarrow."""

    def __init__(self, folder: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        self.name = NAMES["parquet"]
        self._arrow: Any = pyarrow
        kinds = {name: pyarrow.string() for name in COLUMNS}
        kinds |= {name: pyarrow.float64() for name in NUMERIC}
        kinds |= {"sequence": pyarrow.int64(), "unreadable": pyarrow.bool_(), "mutating": pyarrow.bool_()}
        self._schema = pyarrow.schema(list(kinds.items()))
        self._file = File(folder / self.name)
        self._writer = pyarrow.parquet.ParquetWriter(pyarrow.PythonFile(self._file, mode="w"), self._schema)
        self._rows: list[dict[str, Any]] = []
        self._count = 0

    def add(self, recorded: Recorded, event: Any) -> None:
        """One row."""
        row = flat(recorded, event)
        self._rows.append({name: float(row[name]) if name in NUMERIC else row[name] for name in row})
        self._count += 1
        if len(self._rows) >= _ROWS:
            self._flush()

    def close(self) -> dict[str, Any]:
        """Finish."""
        self._flush()
        self._writer.close()
        self._file.close()
        return {"sha256": self._file.sha256, "bytes": self._file.bytes, "events": self._count}

    def _flush(self) -> None:
        if self._rows:
            whole = [{name: row.get(name) for name in COLUMNS} for row in self._rows]
            self._writer.write_table(self._arrow.Table.from_pylist(whole, schema=self._schema))
            self._rows = []


def open_forms(folder: Path, wanted: list[str]) -> list[Form]:
    """The files that are wanted, the exact bytes first.

    Raises:
        OSError: a file cannot be made, or is there.
    """
    made: list[Form] = [Lines(folder, EVENTS)]
    if "csv" in wanted:
        made.append(Csv(folder))
    if "ocsf" in wanted:
        made.append(Lines(folder, NAMES["ocsf"]))
    if "parquet" in wanted:
        made.append(Parquet(folder))
    return made
