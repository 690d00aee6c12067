"""The worker's part that signs, made of its settings."""

import asyncio
from pathlib import Path

from nats.js import JetStreamContext

from opsbus import Worker
from opsbus.logs import get as get_log
from opsbus.settings import SettingsError
from opsbus_audit.proof.note import NoteError, SigningKey, VerifierKey
from opsbus_audit.proof.signer import CheckpointSigner, Pace
from opsbus_audit.settings import AuditSettings
from opsbus_audit.store import AuditStore

FAULT = "record"
_LOOK_EVERY_S = 0.1
PUBLIC = ".pub"
"""The verifier key is written beside the file of checkpoints, with this ending."""


def checkpoint_signer(
    made: Worker, settings: AuditSettings, store: AuditStore, js: JetStreamContext
) -> CheckpointSigner:
    """What signs the tree of this store; when that is at odds with what was signed, /ready of the worker turns red.

    Raises:
        SettingsError: the key cannot be used.
    """

    async def alarm(what: str) -> None:
        while True:
            for runtime in made.runtimes:
                if runtime.settings is settings:
                    runtime.faults[FAULT] = what
                    return
            await asyncio.sleep(_LOOK_EVERY_S)

    former = _former(settings)
    pace = Pace(settings.checkpoint_events, settings.checkpoint_every_s)
    log = get_log("audit", part="checkpoints")
    key = load_key(settings)
    store.verifier_keys = [key.public, *former]
    if settings.checkpoint_file is not None:
        _export(key, settings.checkpoint_file.with_suffix(PUBLIC))
    return CheckpointSigner(store.engine, js, key, settings.checkpoint_file, pace, log, alarm, former)


def load_key(settings: AuditSettings) -> SigningKey:
    """The key that signs checkpoints.

    Raises:
        SettingsError: there is none, or it cannot be used.
    """
    if settings.checkpoint_key_file is None:
        raise SettingsError(
            "setting checkpoint_key_file: no key signs checkpoints; set OPSBUS_AUDIT_CHECKPOINT_KEY_FILE"
        )
    try:
        return SigningKey.load(settings.checkpoint_origin, settings.checkpoint_key_file)
    except NoteError as error:
        raise SettingsError(f"setting checkpoint_key_file (OPSBUS_AUDIT_CHECKPOINT_KEY_FILE): {error}") from None


def _export(key: SigningKey, path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_text(f"{key.public}\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"setting checkpoint_file (OPSBUS_AUDIT_CHECKPOINT_FILE): {path} cannot be written: {error.strerror}"
        ) from None


def _former(settings: AuditSettings) -> list[VerifierKey]:
    try:
        return [VerifierKey.parse(text) for text in settings.checkpoint_former_keys]
    except NoteError as error:
        raise SettingsError(f"setting checkpoint_former_keys (OPSBUS_AUDIT_CHECKPOINT_FORMER_KEYS): {error}") from None
