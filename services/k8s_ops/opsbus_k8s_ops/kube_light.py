"""The Kubernetes client's asynchronous half alone, and of it what we use. What its packages load on top is seven
megabytes: the whole synchronous client, OAuth and requests, watches and utilities.

Who imports the rest, here or elsewhere, gets it nevertheless.
"""

from opsbus.bare import bare

with bare("kubernetes", "kubernetes.aio"):
    from kubernetes.aio.client import ApiClient, Configuration
    from kubernetes.aio.config import ConfigException
    from kubernetes.aio.config.incluster_config import load_incluster_config
    from kubernetes.aio.config.kube_config import KubeConfigLoader, KubeConfigMerger

__all__ = [
    "ApiClient",
    "ConfigException",
    "Configuration",
    "KubeConfigLoader",
    "KubeConfigMerger",
    "load_incluster_config",
]
