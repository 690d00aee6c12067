"""Names where the record has pseudonyms: for whoever may read the keys, and for as long as a key is there."""

from dataclasses import replace

from opsbus.personal import Persons, PersonsError, sealing_context
from opsbus_audit.search import Entry, Question

_REVEALED = ("actor", "client", "address", "session")


async def also_by_pseudonym(persons: Persons | None, question: Question) -> Question:
    """The question, which finds a caller's events under their pseudonym too.

    Raises:
        opsbus.personal.PersonsError: the bucket does not answer.
    """
    if persons is None or question.actor is None:
        return question
    person = await persons.find(question.actor)
    return question if person is None else replace(question, pseudonym=person.pseudonym)


async def reveal(persons: Persons | None, entries: list[Entry]) -> str:
    """Put the personal fields back where the key is there. Returns a line when some stay sealed, else nothing."""
    sealed = [entry for entry in entries if entry.personal]
    if not sealed:
        return ""
    if persons is None:
        return "who called stays sealed: the keys of personal data are not at hand"
    forgotten = 0
    try:
        for entry in sealed:
            person = await persons.named(entry.actor)
            if person is None:
                forgotten += 1
                continue
            told = person.open(entry.personal, sealing_context(entry.call, entry.stage))
            for name in _REVEALED:
                if name in told:
                    setattr(entry, name, told[name])
    except PersonsError as error:
        return f"who called stays sealed: {error}"
    except ValueError as error:
        return f"who called stays sealed in an event: {error}"
    return f"{forgotten} of these events are of people who were forgotten" if forgotten else ""
