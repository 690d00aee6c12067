"""What the tools work with: the book of what waits, and the record."""

from dataclasses import dataclass

from opsbus.platform_audit import PlatformAudit
from opsbus_approvals.book import Book


@dataclass(frozen=True)
class Deciding:
    """Of one worker process."""

    book: Book
    record: PlatformAudit
