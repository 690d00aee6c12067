"""uvicorn's server without its command line, its reloading and what watches files for that: three megabytes. Import it
before faststream, which loads all of it to see whether it is there.
"""

import sys
from importlib import import_module

from opsbus.bare import bare

_ASKED_FOR_LATER = (
    "faststream._internal._compat",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.auto",
)

with bare("uvicorn"):
    from uvicorn.config import Config
    from uvicorn.server import Server

    sys.modules["uvicorn"].Config = Config  # type: ignore[attr-defined]
    for _name in _ASKED_FOR_LATER:
        import_module(_name)

__all__ = ["Config", "Server"]
