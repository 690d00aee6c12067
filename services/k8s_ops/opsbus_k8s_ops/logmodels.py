"""What k8s_get_pod_logs returns."""

from pydantic import BaseModel, Field

from opsbus import Page
from opsbus_k8s_ops.models import optional

TEXT_LINES_MAX = 60
"""Lines of the text form; the structured form has them all."""


class LogLine(BaseModel):
    """One line. Secrets are masked by kind."""

    time: str = Field(description="When the runtime took the line. RFC 3339.")
    pod: str
    container: str
    previous: bool | None = optional("From the run before the current one.")
    text: str

    def to_text(self) -> str:
        """The line with where it is from."""
        run = " (previous run)" if self.previous else ""
        return f"{self.time} {self.pod}/{self.container}{run}: {self.text}"


class LogPattern(BaseModel):
    """Lines that differ only in numbers, ids, addresses and times."""

    pattern: str
    level: str = Field(description="fatal, error, warning, info or debug, guessed by the line's words.")
    count: int
    first: str
    last: str
    pods: list[str] = Field(description="The first of them.")
    pod_count: int
    example: str | None = optional("The first such line as it was.")

    def to_text(self) -> str:
        """One line."""
        return f"{self.count} x [{self.level}] {self.pattern} ({self.first} .. {self.last}, {self.pod_count} pods)"


class LogStream(BaseModel):
    """What was read of one container's log."""

    pod: str
    container: str
    previous: bool
    lines: int = Field(description="Lines that matched, before the answer's budget.")
    scanned: int = Field(description="Lines looked at.")
    note: str | None = optional("What a reader must know: why there is nothing, or where reading stopped.")


class PodLogs(Page[LogLine | LogPattern]):
    """Lines of all pods merged by time, or their patterns."""

    cluster: str = ""
    namespace: str = ""
    streams: list[LogStream] = Field(default_factory=list)

    def to_text(self) -> str:
        """The lines."""
        lines = [item.to_text() for item in self.items]
        hidden = len(lines) - TEXT_LINES_MAX
        if hidden > 0 and self.items and isinstance(self.items[0], LogPattern):
            lines = [*lines[:TEXT_LINES_MAX], f"... and {hidden} more patterns in the structured answer"]
        elif hidden > 0:
            lines = [f"... {hidden} older lines in the structured answer", *lines[-TEXT_LINES_MAX:]]
        notes = [f"{stream.pod}/{stream.container}: {stream.note}" for stream in self.streams if stream.note]
        if self.page.next_cursor:
            notes.append(f"Older lines with cursor={self.page.next_cursor}")
        return "\n".join([*(lines or ["No lines."]), *notes, *(f"Warning: {warning}" for warning in self.warnings)])
