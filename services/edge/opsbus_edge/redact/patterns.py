"""Rules that hide by look: a token in the middle of a sentence. Which fields are hidden whole: elsewhere."""

import re
from collections.abc import Callable, Iterable

PATTERN_MAX = 500
"""Characters of one pattern."""

_KNOWN = (
    # The scheme stays, so that one sees what was there.
    r"(?P<keep_scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}",
    # A password in a URL: postgres://user:password@host
    r"(?P<keep_user>\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{0,128}:)[^\s/@]{1,256}(?=@)",
    # password=..., token: ... in free text
    r"(?P<keep_name>\b(?:password|passwd|pwd|secret|token|api[_-]?key)\s{0,3}[=:]\s{0,3})[^\s,;&\"']{3,256}",
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[\s\S]{0,20000}?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",  # JWT
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",  # AWS
    r"\bgh[pousr]_[A-Za-z0-9]{30,}",  # GitHub
    r"\bxox[abposr]-[A-Za-z0-9-]{10,}",  # Slack
    r"\bglpat-[A-Za-z0-9_-]{20,}",  # GitLab
    r"\bS[UNAOCX][A-Z2-7]{56}\b",  # a seed of NATS
)


def pattern(given: str) -> str:
    """A pattern of the settings.

    Raises:
        ValueError: it is no regular expression, or one that would hide everything.
    """
    if len(given) > PATTERN_MAX:
        raise ValueError(f"a pattern has at most {PATTERN_MAX} characters, this one has {len(given)}")
    try:
        compiled = re.compile(given)
    except re.error as error:
        raise ValueError(f"{given!r} is no regular expression: {error}") from None
    if compiled.groupindex or re.search(r"\\[1-9]", given):
        raise ValueError(f"{given!r}: named groups and references to groups are not taken")
    if compiled.search("") is not None:
        raise ValueError(f"{given!r} matches an empty text and would hide everything")
    return given


class Patterns:
    """Compiled once, looked for in one go."""

    def __init__(self, further: Iterable[str] = ()) -> None:
        known = "|".join(_KNOWN)
        own = "".join(f"|(?-i:{one})" for one in further)
        self._any = re.compile(known + own, re.IGNORECASE)

    def hide(self, text: str, mark: Callable[[str], str]) -> str:
        """``text`` with a mark in place of each match."""

        def replaced(match: re.Match[str]) -> str:
            kept = next((part for part in match.groupdict().values() if part), "")
            return kept + mark(match.group()[len(kept) :])

        return self._any.sub(replaced, text)
