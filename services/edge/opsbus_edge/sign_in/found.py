"""What a directory says of a user and a password. Asking it: directory.py, which costs start-up time and memory."""

from dataclasses import dataclass


class DirectoryError(Exception):
    """The directory cannot say, in one line for the log. Nothing is known about the password."""


@dataclass(frozen=True)
class Found:
    """A user whose password holds."""

    sub: str
    roles: tuple[str, ...]
