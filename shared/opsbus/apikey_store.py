"""The bucket of API keys as the keeper changes it: every change by compare-and-set, and in the record.

What gives is recorded before it is in force, what takes is in force before it is recorded: a record that cannot be
written stops a new key, never a revocation.
"""

import time
from dataclasses import dataclass

from nats.js import JetStreamContext
from nats.js.errors import InvalidKeyError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import ValidationError

from opsbus import apikeys
from opsbus.platform_audit import PlatformAudit
from opsbus_contracts.access import ApiKey, KeyUse
from opsbus_contracts.audit import PlatformStage
from opsbus_contracts.streams import APIKEYS, KEYUSE

GRACE_MAX_S = 30 * 86_400


class ApiKeyError(Exception):
    """What was asked for cannot be done; one line, and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Made:
    """A key, and its only showing."""

    key: ApiKey
    shown: str


@dataclass(frozen=True)
class Listed:
    """A key and when it was used."""

    key: ApiKey
    use: KeyUse | None


class ApiKeyStore:
    """API keys of the platform. ``js``: of the identity ``keeper``. ``by``: who acts, for the record."""

    def __init__(self, js: JetStreamContext, audit: PlatformAudit, by: str) -> None:
        self._js = js
        self._audit = audit
        self._by = by

    async def create(self, owner: str, roles: list[str], expires: int, description: str) -> Made:
        """A new key. ``expires``: Unix seconds; 0: never.

        Raises:
            ApiKeyError: a field is wrong.
            NotRecordedError: nothing was made.
        """
        if not owner.isprintable() or not description.isprintable():
            raise ApiKeyError("owner and description must be printable characters on one line")
        if not roles or not all(0 < len(role) <= 64 and role.isprintable() for role in roles):
            raise ApiKeyError("a key needs at least one role, each of 1 to 64 printable characters")
        secret = apikeys.new_secret()
        try:
            key = ApiKey(
                id=apikeys.new_id(),
                owner=owner,
                roles=roles,
                description=description,
                digest=apikeys.digest(secret),
                created=int(time.time()),
                expires=expires,
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ApiKeyError(f"{first['loc'][0] if first['loc'] else 'key'}: {first['msg'].lower()}") from None
        await self._record("create", key, "")
        await (await self._bucket()).create(key.id, key.model_dump_json().encode())
        return Made(key, apikeys.shown(key.id, secret))

    async def rotate(self, id: str, grace_s: int, reason: str) -> Made:
        """A new secret for a key; the present one is good for ``grace_s`` more seconds.

        Raises:
            ApiKeyError: there is no such key, it is not in force, or somebody else changed it meanwhile.
            NotRecordedError: nothing was changed.
        """
        now = int(time.time())
        key, revision = await self._get(id)
        state = apikeys.state(key, now)
        if state is not apikeys.State.ACTIVE:
            raise ApiKeyError(f"the key {id} is {state.value}", "make a new one with 'opsbus keys create'")
        secret = apikeys.new_secret()
        changed = key.model_copy(
            update={
                "digest": apikeys.digest(secret),
                "previous_digest": key.digest if grace_s else "",
                "previous_until": now + grace_s if grace_s else 0,
                "rotated": now,
            }
        )
        await self._record("rotate", changed, reason)
        await self._put(changed, revision)
        return Made(changed, apikeys.shown(id, secret))

    async def revoke(self, id: str, reason: str) -> ApiKey:
        """Ends a key at once; the record stays in the bucket, so that lists tell of it.

        Raises:
            ApiKeyError: there is no such key, it is revoked already, or it changed again and again.
            NotRecordedError: it is revoked, and the record does not tell.
        """
        for attempt in range(5):
            key, revision = await self._get(id)
            if key.revoked:
                raise ApiKeyError(f"the key {id} is revoked already")
            changed = key.model_copy(update={"revoked": int(time.time()), "previous_digest": "", "previous_until": 0})
            try:
                await self._put(changed, revision)
                break
            except ApiKeyError:
                if attempt == 4:
                    raise
        await self._record("revoke", changed, reason)
        return changed

    async def all(self) -> list[Listed]:
        """Every key there ever was, the newest first."""
        prefix = f"$KV.{APIKEYS.name}."
        # Asked of the stream: nats-py's list of keys is built on a watch whose end mark can come too early.
        info = await self._js.stream_info(f"KV_{APIKEYS.name}", subjects_filter=f"{prefix}>")
        uses = await self._js.key_value(KEYUSE.name)
        found = []
        for subject in info.state.subjects or {}:
            key, _ = await self._get(subject.removeprefix(prefix))
            found.append(Listed(key, await _use(uses, key.id)))
        return sorted(found, key=lambda one: -one.key.created)

    async def _get(self, id: str) -> tuple[ApiKey, int]:
        bucket = await self._bucket()
        try:
            entry = await bucket.get(id)
            return ApiKey.model_validate_json(entry.value or b""), int(entry.revision or 0)
        except (KeyNotFoundError, InvalidKeyError):
            raise ApiKeyError(f"there is no key {id[:40]!r}", "'opsbus keys list' shows those there are") from None
        except ValidationError:
            raise ApiKeyError(f"the record of the key {id[:40]!r} is damaged", "edges do not believe it") from None

    async def _put(self, key: ApiKey, revision: int) -> None:
        try:
            await (await self._bucket()).update(key.id, key.model_dump_json().encode(), last=revision)
        except KeyWrongLastSequenceError:
            raise ApiKeyError(f"somebody else changed the key {key.id} at this moment", "try again") from None

    async def _bucket(self) -> KeyValue:
        return await self._js.key_value(APIKEYS.name)

    async def _record(self, action: str, key: ApiKey, reason: str) -> None:
        details = {
            "action": action,
            "kind": "api_key",
            "owner": key.owner,
            "roles": key.roles,
            "expires": key.expires,
            "previous_until": key.previous_until,
        }
        await self._audit.record(
            PlatformStage.KEY_CHANGED, actor=self._by, target=f"api_key/{key.id}", reason=reason, details=details
        )


async def _use(bucket: KeyValue, id: str) -> KeyUse | None:
    try:
        return KeyUse.model_validate_json((await bucket.get(id)).value or b"")
    except (KeyNotFoundError, ValidationError):
        return None
