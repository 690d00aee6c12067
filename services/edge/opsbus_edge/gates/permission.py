"""Whether a set of permission globs permits a permission. Which role has which globs: policy.py."""

import re
from functools import lru_cache


@lru_cache(maxsize=16_384)
def permits(permissions: tuple[str, ...], needed: str) -> bool:
    """Whether one glob covers ``needed`` and no ``!glob`` denies it; ``*`` stands for any characters."""
    return deciding(permissions, needed)[0]


@lru_cache(maxsize=16_384)
def deciding(permissions: tuple[str, ...], needed: str) -> tuple[bool, str]:
    """``(permitted, the glob that decided)``; the glob is empty when nothing covers ``needed``."""
    for glob in permissions:
        if glob.startswith("!") and _pattern(glob[1:]).fullmatch(needed):
            return False, glob
    for glob in permissions:
        if not glob.startswith("!") and _pattern(glob).fullmatch(needed):
            return True, glob
    return False, ""


@lru_cache(maxsize=4_096)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in glob.split("*")), re.DOTALL)
