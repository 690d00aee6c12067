"""The NATS permissions of every identity, as JSON shaped like a nats-server configuration's ``permissions`` block."""

import json
from typing import Any

from opsbus_contracts.permissions import PLATFORM_IDENTITIES, TEMPLATE, Grants, grants

FIRST_PARTY = ("k8s", "monitoring", "cmdb", "audit", "approvals")


def block(found: Grants) -> dict[str, Any]:
    """``{"publish": {"allow": [...]}, "subscribe": {"allow": [...]}, "allow_responses": {...}}``."""
    permissions: dict[str, Any] = {
        "publish": {"allow": list(found.publish)},
        "subscribe": {"allow": list(found.subscribe)},
    }
    if found.allow_responses:
        permissions["allow_responses"] = found.allow_responses._asdict()
    return permissions


def permission_files() -> dict[str, str]:
    """File name to text, for ``contracts/permissions/``; ``worker.json`` is the template for any team's worker."""
    named = {name: grants(name) for name in (*PLATFORM_IDENTITIES, *FIRST_PARTY)}
    named["worker"] = grants(TEMPLATE)
    return {f"{name}.json": json.dumps(block(found), indent=2) + "\n" for name, found in named.items()}
