"""A backup on the disk: ``backup.json`` with what is in it and each part's SHA-256, beside the parts.

backup.json
streams/AUDIT.snapshot      the server's own form
stores/audit.ndjson.gz      a row a line
"""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

MANIFEST = "backup.json"
FORMAT = 1


class BackupError(Exception):
    """A backup cannot be made or used; one line, and what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class StreamPart(BaseModel):
    """A stream, bucket or object store."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    file: str
    sha256: str
    bytes: int
    messages: int
    last_sequence: int
    about: dict[str, Any]
    """``config`` and ``state``, as the server wants them back."""


class StorePart(BaseModel):
    """A service's store."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,30}$")
    file: str
    sha256: str
    bytes: int
    rows: dict[str, int]


class Backup(BaseModel):
    """What ``backup.json`` holds."""

    format: int = FORMAT
    made_at: datetime
    opsbus: str
    """Version that made it."""
    streams: list[StreamPart] = []
    stores: list[StorePart] = []


def write_manifest(folder: Path, backup: Backup) -> None:
    """Written last: a folder without it is no backup."""
    fresh = folder / f".{MANIFEST}"
    fresh.write_text(json.dumps(backup.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    fresh.chmod(0o600)
    fresh.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> Backup:
    """What a folder holds, each part checked against its digest.

    Raises:
        BackupError: it is no backup, of a later format, or damaged.
    """
    try:
        backup = Backup.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise BackupError(
            f"{folder / MANIFEST} cannot be read: {error.strerror}", "name the folder that 'opsbus backup' wrote"
        ) from None
    except ValidationError:
        raise BackupError(f"{folder / MANIFEST} is no manifest of a backup", "take another copy of it") from None
    if backup.format > FORMAT:
        raise BackupError(f"the backup has format {backup.format}, this opsbus reads {FORMAT}", "use a later opsbus")
    parts: list[StreamPart | StorePart] = [*backup.streams, *backup.stores]
    for part in parts:
        path = folder / part.file
        if Path(part.file).is_absolute() or ".." in Path(part.file).parts:
            raise BackupError(f"the backup names a file outside of it: {part.file!r}", "do not use it")
        try:
            found = digest(path)
        except OSError as error:
            raise BackupError(f"{path} cannot be read: {error.strerror}", "take another copy of the backup") from None
        if found != part.sha256:
            raise BackupError(f"{path} is not what was backed up: its SHA-256 differs", "take another copy of it")
    return backup


def digest(path: Path) -> str:
    """SHA-256 hex of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
