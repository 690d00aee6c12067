"""Writes the kubeconfig by which kubectl and the workers reach the emulated cluster."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path

import yaml


def write_kubeconfig(
    path: Path, *, cluster: str, server: str, authority_pem: bytes, namespace: str, tokens: Mapping[str, str]
) -> None:
    """One cluster, one context per account; the first account's is current. Only its owner can read the file."""
    contexts = {name: cluster if index == 0 else f"{cluster}-{name}" for index, name in enumerate(tokens)}
    authority = base64.b64encode(authority_pem).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": {"token": token}} for name, token in tokens.items()],
        "contexts": [
            {"name": context, "context": {"cluster": cluster, "user": name, "namespace": namespace}}
            for name, context in contexts.items()
        ],
        "current-context": next(iter(contexts.values())),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        yaml.safe_dump(document, file, sort_keys=False)
    fresh.replace(path)
