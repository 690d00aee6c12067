"""The two accounts of a server: who speaks (BUS) is apart from what is stored (STORE). Who may what: the contracts.

Why two: a server checks a client's permission for the subject it publishes to, never for the reply subject it gives.
With streams in the clients' own account, an answer of JetStream itself (an acknowledgement, a key's value) sent to the
reply subject ``audit.edge.completed`` or ``$KV.KEYS.identity.mine`` would be *stored* there, whoever asked. Across
accounts an answer comes back as an answer and is never imported again; and a consumer made by a client delivers into
STORE, of which BUS sees inboxes alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opsbus_contracts.streams import STREAMS

BUS = "BUS"
"""Account of every identity but the provisioner."""
STORE = "STORE"
"""Account of JetStream, and of who makes streams, restores them and speaks with no worker: the provisioner."""
PROVISIONER = "provisioner"
_BEFORE = "$G"
"""Where streams were kept before there were two accounts."""


def services() -> tuple[str, ...]:
    """Subjects that BUS sends to STORE."""
    streams = (subject for stream in STREAMS for subject in stream.subjects)
    return ("$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$KV.>", "$O.>", *streams)


def accounts(users: Mapping[str, Any]) -> dict[str, Any]:
    """The server's ``accounts``.

    Args:
        users: By identity: ``{nkey, permissions}``.
    """
    # An API request may have many answers, such as a pull for a batch.
    exports: list[dict[str, Any]] = [
        {"service": subject, "response_type": "stream"} if subject.startswith("$JS.API") else {"service": subject}
        for subject in services()
    ]
    imports: list[dict[str, Any]] = [{"service": {"account": STORE, "subject": subject}} for subject in services()]
    inboxes = "_INBOX.>"
    return {
        STORE: {
            "jetstream": "enabled",
            "users": [users[PROVISIONER]] if PROVISIONER in users else [],
            "exports": [*exports, {"stream": inboxes}],
        },
        BUS: {
            "users": [users[identity] for identity in sorted(users) if identity != PROVISIONER],
            "imports": [*imports, {"stream": {"account": STORE, "subject": inboxes}}],
        },
    }


def move_store(store_dir: Path) -> bool:
    """Take along what a server of before kept in its only account; whether there was anything. It must not run."""
    old, new = (store_dir / "jetstream" / name for name in (_BEFORE, STORE))
    if not old.is_dir() or new.exists():
        return False
    old.rename(new)
    return True
