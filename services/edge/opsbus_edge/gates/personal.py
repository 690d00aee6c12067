"""Fields about a person, under a key of the person's own before an event leaves the edge. The keys: opsbus.personal."""

from typing import Any

from opsbus.personal import Person, Persons, PersonsError, sealing_context
from opsbus_contracts.audit import Stage
from opsbus_contracts.errors import ErrorBody, ErrorCode
from opsbus_edge.model import Caller, error_body

FIELDS = ("actor", "client", "address", "session")
UNNAMED = "person-unknown"


class Cover:
    """Takes the personal fields out of the records of one call."""

    def __init__(self, person: Person | None) -> None:
        self._person = person

    @property
    def name(self) -> str:
        """Of the caller, in the record."""
        return self._person.pseudonym if self._person is not None else UNNAMED

    def __call__(self, stage: Stage, record: dict[str, Any]) -> dict[str, Any]:
        """The record with a pseudonym for ``actor`` and the fields sealed in ``personal``."""
        told = {name: str(record[name]) for name in FIELDS if record.get(name)}
        covered = {name: value for name, value in record.items() if name not in FIELDS}
        if covered.get("message") and told.get("actor"):
            covered["message"] = covered["message"].replace(told["actor"], self.name)  # workers name whom they refuse
        if self._person is None:
            return covered | {"actor": UNNAMED}
        sealed = self._person.seal(told, sealing_context(record["call"], stage.value))
        return covered | {"actor": self._person.pseudonym, "personal": sealed}


class PersonalData:
    """Whether personal fields are encrypted, and with which keys. ``persons``: None leaves them as they are."""

    def __init__(self, persons: Persons | None) -> None:
        self._persons = persons

    async def of(self, caller: Caller) -> tuple[Cover | None, ErrorBody | None]:
        """How the caller's records are covered; with an error when the call must be refused, for want of the key."""
        if self._persons is None:
            return None, None
        try:
            return Cover(await self._persons.of(caller.sub)), None
        except PersonsError as error:
            return Cover(None), error_body(
                ErrorCode.AUDIT_UNAVAILABLE,
                f"{error}; the call was not carried out",
                hint="Try again in a few seconds; without the key the record of the call would name you in the clear.",
                retry_after_ms=2_000,
            )
