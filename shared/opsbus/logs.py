"""Structured logs to stderr: one JSON object a line, or text on a terminal.

Secrets are kept out by key; traces are elsewhere.
"""

import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

_SECRET = re.compile(r"(secret|token|passw|seed|authorization|api_?key|private|credential)", re.IGNORECASE)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_HANDLER = "opsbus"


class Log:
    """A logger of events with fields. ``bind`` adds fields that every later line carries."""

    def __init__(self, logger: logging.Logger, bound: Mapping[str, Any] | None = None) -> None:
        self._logger = logger
        self._bound = dict(bound or {})

    @property
    def debugs(self) -> bool:
        """Whether debug lines are written: whoever would make one on every call asks first."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def bind(self, **fields: Any) -> "Log":
        """A logger with more fields."""
        return Log(self._logger, self._bound | fields)

    def debug(self, event: str, **fields: Any) -> None:
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, error: BaseException, **fields: Any) -> None:
        """An error with its traceback, for operators only."""
        self._write(logging.ERROR, event, fields, error)

    def _write(self, level: int, event: str, fields: dict[str, Any], error: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            info = (type(error), error, error.__traceback__) if error else None
            self._logger.log(level, event, extra={"fields": self._bound | fields}, exc_info=info)


class JsonFormatter(logging.Formatter):
    """``{"time", "level", "service", "instance", "event", "call", "trace_id", ...}``"""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        line |= masked(getattr(record, "fields", {}))
        if record.name != _HANDLER and not record.name.startswith("opsbus."):
            line["logger"] = record.name
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


class TextFormatter(logging.Formatter):
    """``12:00:01.123 info  service event key=value``"""

    def format(self, record: logging.LogRecord) -> str:
        fields = masked(getattr(record, "fields", {}))
        time = datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds")[11:23]
        service = fields.pop("service", record.name)
        shown = " ".join(f"{key}={value}" for key, value in fields.items() if key != "instance")
        text = f"{time} {record.levelname.lower():7} {service}: {record.getMessage()} {shown}".rstrip()
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def masked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with values of secret-like keys hidden, also inside mappings."""
    return {
        key: "***" if _SECRET.search(str(key)) and value else masked(value) if isinstance(value, Mapping) else value
        for key, value in fields.items()
    }


def configure(level: str = "info", format: str = "auto", stream: TextIO | None = None) -> None:
    """Sends all logs of the process to stderr in one form. Called once, by the process; never by the kit in a test."""
    target = stream or sys.stderr
    text = format == "text" or (format == "auto" and target.isatty())
    handler = logging.StreamHandler(target)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries
    logging.getLogger(_HANDLER).setLevel(level.upper())


def get(service: str, **fields: Any) -> Log:
    """A logger of a service."""
    return Log(logging.getLogger(f"{_HANDLER}.{service}"), {"service": service, **fields})
