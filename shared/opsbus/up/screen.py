"""What the user sees while the platform starts, runs and stops: one calm line per process.

On a terminal the lines change in place; anywhere else each change is a plain line of its own.
"""

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from opsbus.up.model import Row, State

_MARKS = {
    State.WAITING: ("·", "dim"),
    State.READY: ("✓", "green"),
    State.DIED: ("↻", "yellow"),
    State.FAILED: ("✗", "bold red"),
    State.STOPPED: ("✓", "dim"),
}
_NAME_WIDTH = 12
_TOLD_PLAIN = (State.READY, State.FAILED, State.STOPPED)
"""Without a terminal, a process is told of when something has come of it."""
_TOLD_LATER = (State.READY,)
"""Between start and stop ``trouble`` has told the rest."""


class Screen:
    """The lines of the processes, in the order in which they were first seen."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._rows: dict[str, Row] = {}
        self._live: Live | None = None
        self._spinner = Spinner("dots", style="cyan")
        self._quiet = False

    # -- the block of lines ------------------------------------------------------------------------------------------

    def __enter__(self) -> "Screen":
        """Begin a block of lines that change in place."""
        self._rows = {}
        self._quiet = False
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._render, refresh_per_second=10, transient=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the block: its lines stay as they are; later changes are told by ``trouble`` and ``say``."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._quiet = True

    def expect(self, names: Sequence[str]) -> None:
        """Show these as waiting, before anything is known of them."""
        for name in names:
            self._rows.setdefault(name, Row(name))

    def changed(self, row: Row) -> None:
        """A process has another state."""
        self._rows[row.name] = row
        if self._live is None and row.state in (_TOLD_LATER if self._quiet else _TOLD_PLAIN):
            self.console.print(self._line(row), soft_wrap=True)

    def _render(self) -> Padding:
        table = Table.grid(padding=(0, 1))
        for _ in range(5):
            table.add_column(no_wrap=True, overflow="ellipsis")
        now = time.monotonic()
        for row in self._rows.values():
            moving = row.state in (State.STARTING, State.STOPPING)
            mark = self._spinner if moving else Text(*_MARKS[row.state])
            seconds = now - row.since if moving else row.seconds
            timed = moving or row.state in (State.READY, State.STOPPED)
            table.add_row(
                mark,
                Text(f"{row.name:<{_NAME_WIDTH}}"),
                Text(f"{row.state.value:<9}", style=_style(row)),
                Text(f"{seconds:5.1f} s" if timed else "", style="dim"),
                Text(row.detail, style="dim" if row.state is State.READY else ""),
            )
        return Padding(table, (0, 0, 0, 2))

    def _line(self, row: Row) -> Text:
        mark, style = _MARKS.get(row.state, ("…", "cyan"))
        timed = row.state in (State.READY, State.STOPPED)
        parts = [
            f"{row.name:<{_NAME_WIDTH}} {row.state.value:<9}",
            f"{row.seconds:5.1f} s" if timed else "",
            row.detail,
        ]
        text = Text("  ").append(mark, style=style).append(" ")
        return text.append("  ".join(part for part in parts if part).rstrip())

    # -- lines of their own ------------------------------------------------------------------------------------------

    def say(self, text: str, *, style: str = "") -> None:
        """One line."""
        self.console.print(Text(f"  {text}", style=style), soft_wrap=True)

    def trouble(self, name: str, what: str, log_lines: Sequence[str], hint: str) -> None:
        """A process ended that should not have: what happened, its last words, what to do."""
        clock = time.strftime("%H:%M:%S")
        self._indented("  ✗ ", "bold red", Text.assemble((name, "bold red"), f" {what}", (f"  {clock}", "dim")))
        for line in log_lines:
            self._indented("    │ ", "red", Text(line, style="dim"))
        if hint:
            self._indented("    → ", "yellow", Text(hint))

    def _indented(self, mark: str, style: str, text: Text) -> None:
        """A line after a mark; on a terminal it wraps behind the mark, anywhere else it stays whole."""
        if not self.console.is_terminal:
            self.console.print(Text.assemble((mark, style), text), soft_wrap=True)
            return
        table = Table.grid()
        table.add_column(width=len(mark))
        table.add_column(overflow="fold")
        table.add_row(Text(mark, style=style), text)
        self.console.print(table)


def _style(row: Row) -> str:
    match row.state:
        case State.READY:
            return "green"
        case State.FAILED:
            return "bold red"
        case State.DIED:
            return "yellow"
        case State.STARTING | State.STOPPING:
            return "cyan"
        case _:
            return "dim"
