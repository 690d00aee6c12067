"""A new key for signing identities while all runs: published, then written to the edge's file, then the old one ends.

The edge takes the file up by itself (opsbus_edge/signing.py); workers fetch a key they do not know (keys.py).
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError
from pydantic import ValidationError

from opsbus.apikey_store import ApiKeyError
from opsbus.identity import PublicKey, Signer
from opsbus.keys import key_name, publish_key, withdraw_key
from opsbus.platform_audit import PlatformAudit
from opsbus.up.folder import write_private
from opsbus_contracts.audit import PlatformStage
from opsbus_contracts.identity import LIFETIME_S
from opsbus_contracts.streams import KEYS

ADOPT_MAX_S = 7 * 86_400
CLOCK_S = 30
"""Clocks may differ this much, and a call may be under way this long."""


@dataclass(frozen=True)
class Rotated:
    """What was done."""

    new: str
    """Key id."""
    old: str
    old_until: int
    """Unix seconds."""
    withdrawn: list[str]
    """Ids of keys past their time, which are gone now."""


async def rotate_identity_key(js: JetStreamContext, path: Path, *, adopt_s: int, by: str, reason: str = "") -> Rotated:
    """Replaces the private key in ``path`` by a new one.

    In this order, so that at every moment each key in use is known: the new public key into the bucket, the record,
    the new private key into the file, and only then an end for the old one: after the edges have had ``adopt_s`` to
    take the new one up and the last token of the old one has expired.

    Args:
        js: Of the identity ``keeper``.
        path: The edge's ``identity_key_file``.
        adopt_s: How long edges may take to see the new file. Seconds.

    Raises:
        ApiKeyError: the file holds no key, or cannot be written.
        NotRecordedError: the record does not take it; the old key goes on.
    """
    old = _read(path)
    new = Signer.generate()
    old_until = int(time.time()) + adopt_s + LIFETIME_S + CLOCK_S
    audit = PlatformAudit(js, "keeper")
    details = {"action": "rotate", "kind": "identity", "new": new.kid, "old": old.kid, "old_until": old_until}
    await publish_key(js, new.public())
    await audit.record(
        PlatformStage.KEY_CHANGED, actor=by, target=f"identity/{new.kid}", reason=reason, details=details
    )
    try:
        _write(path, new)
    except OSError as error:
        await withdraw_key(js, new.kid)
        raise ApiKeyError(f"{path} cannot be written: {error.strerror or error}", "the old key goes on") from None
    await publish_key(js, old.public(not_after=old_until))
    return Rotated(new.kid, old.kid, old_until, await _withdraw_past(js, by, audit))


async def _withdraw_past(js: JetStreamContext, by: str, audit: PlatformAudit) -> list[str]:
    """Takes away the keys whose time is over."""
    prefix = f"$KV.{KEYS.name}."
    info = await js.stream_info(f"KV_{KEYS.name}", subjects_filter=f"{prefix}{key_name('*')}")
    bucket = await js.key_value(KEYS.name)
    gone = []
    for subject in info.state.subjects or {}:
        try:
            key = PublicKey.model_validate_json((await bucket.get(subject.removeprefix(prefix))).value or b"")
        except (KeyNotFoundError, ValidationError):
            continue  # withdrawn before, or damaged: it vouches for nobody
        if key.not_after is not None and key.not_after < time.time():
            await withdraw_key(js, key.kid)
            details = {"action": "withdraw", "kind": "identity"}
            await audit.record(PlatformStage.KEY_CHANGED, actor=by, target=f"identity/{key.kid}", details=details)
            gone.append(key.kid)
    return gone


def _write(path: Path, signer: Signer) -> None:
    """Replaces the file at once; it stays its owner's, also when another user rotates. Raises OSError."""
    owner = path.stat()
    write_private(path, signer.pem().decode("ascii"))
    if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(path, owner.st_uid, owner.st_gid)


def _read(path: Path) -> Signer:
    try:
        return Signer.from_pem(path.read_bytes())
    except OSError as error:
        raise ApiKeyError(
            f"{path} cannot be read: {error.strerror or error}",
            "--key-file names the edge's identity_key_file; --data the folder of 'opsbus up'",
        ) from None
    except ValueError:
        raise ApiKeyError(f"{path} holds no unencrypted Ed25519 private key in PEM") from None
