"""nats-py without what it loads for WebSockets alone: aiohttp, twelve megabytes of each process. Import it before nats.

``websockets()`` makes up for it where a URL says ``ws://`` or ``wss://``.
"""

import sys
from importlib import import_module

if "aiohttp" not in sys.modules and "nats.aio.transport" not in sys.modules:
    sys.modules["aiohttp"] = None  # type: ignore[assignment] # an import of it fails, which nats-py allows for
    try:
        import_module("nats.aio.transport")
    finally:
        del sys.modules["aiohttp"]


def websockets() -> None:
    """Load what nats-py needs to speak them."""
    transport = import_module("nats.aio.transport")
    for name in ("aiohttp", "multidict"):
        if getattr(transport, name) is None:
            setattr(transport, name, import_module(name))
