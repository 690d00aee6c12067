"""Personal data in the record: each person's under a key of their own, in the bucket SUBJECTKEYS. Destroying the key
forgets the person, and changes no byte of the record.

The bucket holds ``salt.v1``, ``by.<digest of who>`` with a pseudonym, and ``key.<pseudonym>``. A pseudonym is made up,
so that nobody can find it again once the entry ``by`` is gone. Which fields are personal: the edge's matter.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections import OrderedDict
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nats import errors
from nats.js import JetStreamContext
from nats.js import errors as js_errors
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from opsbus_contracts.streams import SUBJECTKEYS

REMEMBER_S = 60.0
"""A key that was destroyed may encrypt events for this long on; nobody can read them."""
REMEMBERED_MAX = 10_000
SEALED = "v1."
_PSEUDONYM = "person-"
_NONCE = 12
_KEY = 32
_ERRORS = (errors.Error, js_errors.Error, OSError, TimeoutError)


class PersonsError(Exception):
    """The bucket cannot be read or written; one line."""


class Person(NamedTuple):
    """Someone's name in the record, and the key of what is about them."""

    pseudonym: str
    key: bytes

    def seal(self, fields: dict[str, str], context: str) -> str:
        """Encrypt fields about the person.

        Args:
            context: Of the event (call and stage): what is sealed for one cannot be moved to another.
        """
        nonce = secrets.token_bytes(_NONCE)
        box = AESGCM(self.key).encrypt(nonce, json.dumps(fields).encode(), context.encode())
        return SEALED + base64.urlsafe_b64encode(nonce + box).decode()

    def open(self, sealed: str, context: str) -> dict[str, str]:
        """What ``seal`` was given.

        Raises:
            ValueError: it was sealed with another key, for another event, or was changed.
        """
        try:
            data = base64.urlsafe_b64decode(sealed.removeprefix(SEALED))
            found = json.loads(AESGCM(self.key).decrypt(data[:_NONCE], data[_NONCE:], context.encode()))
        except (InvalidTag, ValueError) as error:
            raise ValueError("the personal data of this event cannot be read with its key") from error
        return {str(name): str(value) for name, value in found.items()}


def sealing_context(call: str, stage: str) -> str:
    """Of an event."""
    return f"{call}/{stage}"


class Persons:
    """The people of the record. ``js``: of an identity that may read the bucket; the edge and the keeper also write."""

    def __init__(self, js: JetStreamContext) -> None:
        self._js = js
        self._bucket: KeyValue | None = None
        self._salt = b""
        self._known: OrderedDict[str, tuple[float, Person]] = OrderedDict()

    async def of(self, who: str) -> Person:
        """The person, made when new.

        Raises:
            PersonsError: the bucket does not answer.
        """
        known = self._known.get(who)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            person = await self._find(who, make_salt=True) or await self._make(who)
        except _ERRORS as error:
            raise PersonsError(f"the keys of personal data cannot be used ({type(error).__name__})") from None
        self._known[who] = (time.monotonic() + REMEMBER_S, person)
        self._known.move_to_end(who)
        if len(self._known) > REMEMBERED_MAX:
            self._known.popitem(last=False)
        return person

    async def find(self, who: str) -> Person | None:
        """The person; None: never recorded under a key, or forgotten.

        Raises:
            PersonsError: the bucket does not answer.
        """
        try:
            return await self._find(who, make_salt=False)
        except _ERRORS as error:
            raise PersonsError(f"the keys of personal data cannot be read ({type(error).__name__})") from None

    async def named(self, pseudonym: str) -> Person | None:
        """Who has this pseudonym; None: somebody who was forgotten.

        Raises:
            PersonsError: the bucket does not answer.
        """
        if not pseudonym.startswith(_PSEUDONYM) or not pseudonym.removeprefix(_PSEUDONYM).isalnum():
            return None
        try:
            key = await self._get(f"key.{pseudonym}")
        except _ERRORS as error:
            raise PersonsError(f"the keys of personal data cannot be read ({type(error).__name__})") from None
        return Person(pseudonym, key) if key is not None else None

    async def forget(self, who: str) -> str | None:
        """Destroy the person's key. Returns the pseudonym that stays in the record; None: there is no such person.

        Raises:
            PersonsError: it is not known to be destroyed.
        """
        try:
            person = await self._find(who, make_salt=False)
            if person is None:
                return None
            bucket = await self._open()
            # The key first: were this process to end between the two, the person is forgotten all the same.
            await bucket.purge(f"key.{person.pseudonym}")
            await bucket.purge(await self._entry(who, make_salt=False))
        except _ERRORS as error:
            raise PersonsError(f"the key may not be destroyed ({type(error).__name__}); run it again") from None
        self._known.pop(who, None)
        return person.pseudonym

    async def _find(self, who: str, *, make_salt: bool) -> Person | None:
        entry = await self._entry(who, make_salt=make_salt)
        pseudonym = await self._get(entry) if entry else None
        key = await self._get(f"key.{pseudonym.decode()}") if pseudonym is not None else None
        return Person(pseudonym.decode(), key) if pseudonym is not None and key is not None else None

    async def _make(self, who: str) -> Person:
        bucket = await self._open()
        person = Person(_PSEUDONYM + secrets.token_hex(8), secrets.token_bytes(_KEY))
        await bucket.put(f"key.{person.pseudonym}", person.key)
        entry = await self._entry(who, make_salt=True)
        try:
            await bucket.create(entry, person.pseudonym.encode())
        except KeyWrongLastSequenceError:
            other = await self._find(who, make_salt=True)
            if other is not None:  # another edge was first
                await bucket.purge(f"key.{person.pseudonym}")
                return other
            await bucket.put(entry, person.pseudonym.encode())  # a key was destroyed and its entry left
        return person

    async def _entry(self, who: str, *, make_salt: bool) -> str:
        if not self._salt:
            self._salt = await self._get("salt.v1") or (await self._new_salt() if make_salt else b"")
        if not self._salt:
            return ""
        return f"by.{hmac.new(self._salt, who.encode(), hashlib.sha256).hexdigest()}"

    async def _new_salt(self) -> bytes:
        try:
            salt = secrets.token_bytes(_KEY)
            await (await self._open()).create("salt.v1", salt)
        except KeyWrongLastSequenceError:
            return await self._get("salt.v1") or b""
        return salt

    async def _get(self, name: str) -> bytes | None:
        try:
            return (await (await self._open()).get(name)).value
        except KeyNotFoundError:
            return None

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(SUBJECTKEYS.name)
        return self._bucket
