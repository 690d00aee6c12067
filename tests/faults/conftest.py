"""The three workers, each with a backend behind a proxy that breaks on demand."""

import importlib.util
import sys
from pathlib import Path
from typing import Any


def _load(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_load("fault_proxy", Path(__file__).with_name("proxy.py"))
