"""The images that exist: what can be pulled, and what the registry says about the rest."""

from __future__ import annotations

from opsbus_sandbox.estate.apps import REGISTRY

_TAGS: dict[str, frozenset[str]] = {
    f"{REGISTRY}/{name}": frozenset(tags.split())
    for name, tags in {
        "frontend": "v3.7.1 v3.7.2 v3.8.0 v3.8.1",
        "catalog": "v5.1.9 v5.2.0 v5.2.1",
        "cart": "v1.14.2 v1.14.3 v1.15.0",
        "checkout": "v2.3.9 v2.4.0 v2.4.1",
        "recommendations": "v0.9.3 v0.9.4",
        "payments-api": "v4.1.6 v4.1.7",
        "ledger": "v1.8.4 v1.9.0",
        # For exercises: one that fails, one that finishes, one that stays.
        "tools/crasher": "v1",
        "tools/task": "v1",
        "tools/sleeper": "v1 v2",
    }.items()
} | {
    "alpine": frozenset({"3.20", "latest"}),
    "busybox": frozenset({"1.36", "latest"}),
    "grafana/grafana": frozenset({"11.1.4", "11.2.0"}),
    "nginx": frozenset({"1.25", "1.26", "1.27", "latest"}),
    "postgres": frozenset({"16.2", "16.3"}),
    "quay.io/prometheus/alertmanager": frozenset({"v0.27.0"}),
    "quay.io/prometheus/node-exporter": frozenset({"v1.8.1", "v1.8.2"}),
    "quay.io/prometheus/prometheus": frozenset({"v2.54.0", "v2.54.1"}),
    "redis": frozenset({"7.2.4", "7.2.5"}),
    "registry.k8s.io/coredns/coredns": frozenset({"v1.11.1", "v1.11.3"}),
    "registry.k8s.io/ingress-nginx/controller": frozenset({"v1.11.1", "v1.11.2"}),
    "registry.k8s.io/pause": frozenset({"3.9", "3.10"}),
}


def split_image(image: str) -> tuple[str, str]:
    """(repository, tag) of an image reference; the tag defaults to `latest`."""
    plain = image.partition("@")[0]
    head, slash, last = plain.rpartition("/")
    name, _, tag = last.partition(":")
    return f"{head}{slash}{name}", tag or "latest"


def image_problem(image: str) -> str:
    """Why the image cannot be pulled, in containerd's words, or ""."""
    repository, tag = split_image(image)
    tags = _TAGS.get(repository.removeprefix("docker.io/library/").removeprefix("docker.io/"))
    failed = f'failed to pull and unpack image "{image}": failed to resolve reference "{image}"'
    if tags is None:
        return (
            f"{failed}: pull access denied, repository does not exist or may require authorization: "
            "server message: insufficient_scope: authorization failed"
        )
    if tag not in tags:
        return f"{failed}: {image}: not found"
    return ""
