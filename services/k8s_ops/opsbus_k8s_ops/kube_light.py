"""The Kubernetes client's asynchronous half alone, and of it what we use. What its packages load on top is seven
megabytes: the whole synchronous client, OAuth and requests, watches and utilities.

Who imports the rest, here or elsewhere, gets it nevertheless.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType


def _load() -> None:
    """With packages in place of "kubernetes" and "kubernetes.aio" that only say where their modules are."""
    whole = find_spec("kubernetes")
    folders = list(whole.submodule_search_locations or ()) if whole is not None else []
    for name, path in (("kubernetes", folders), ("kubernetes.aio", [f"{folder}/aio" for folder in folders])):
        package = sys.modules[name] = ModuleType(name)
        package.__path__ = path
    try:
        import_module("kubernetes.aio.client")
        import_module("kubernetes.aio.config")
    finally:
        del sys.modules["kubernetes"], sys.modules["kubernetes.aio"]


if "kubernetes" not in sys.modules:
    _load()

from kubernetes.aio.client import ApiClient, Configuration  # noqa: E402
from kubernetes.aio.config import ConfigException  # noqa: E402
from kubernetes.aio.config.incluster_config import load_incluster_config  # noqa: E402
from kubernetes.aio.config.kube_config import KubeConfigLoader, KubeConfigMerger  # noqa: E402

__all__ = [
    "ApiClient",
    "ConfigException",
    "Configuration",
    "KubeConfigLoader",
    "KubeConfigMerger",
    "load_incluster_config",
]
