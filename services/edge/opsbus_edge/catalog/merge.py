"""Offers of many instances become one catalogue, the same on every edge that saw the same offers."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from packaging.version import InvalidVersion, Version

from opsbus_edge.catalog.entries import (
    KINDS,
    PROMPTS,
    TOOLS,
    Entry,
    Item,
    Offer,
    PromptEntry,
    Refusal,
    ResourceEntry,
    ToolEntry,
)


@dataclass(slots=True)
class Merged:
    """The catalogue at one moment."""

    tools: dict[str, ToolEntry] = field(default_factory=dict)
    resources: dict[str, ResourceEntry] = field(default_factory=dict)
    templates: dict[str, ResourceEntry] = field(default_factory=dict)
    prompts: dict[str, PromptEntry] = field(default_factory=dict)
    refusals: set[Refusal] = field(default_factory=set)
    places: dict[str, int] = field(default_factory=dict)
    """Calls that the instances of a service run at once, by service."""

    def entries(self, kind: str) -> dict[str, Any]:
        """Entries of a kind by key, in the order of keys."""
        return getattr(self, kind)  # type: ignore[no-any-return]


def merge(offers: Iterable[Offer]) -> Merged:
    """The union of what all instances offer; of several specs of one thing, the newest version's counts.

    A key that two services announce stays with the service whose token sorts first; the other's item is refused.
    """
    merged = Merged()
    by_service: dict[str, list[Offer]] = {}
    for offer in offers:
        by_service.setdefault(offer.service, []).append(offer)
    owners: dict[tuple[str, str], str] = {}
    for service in sorted(by_service):
        newest_first = sorted(by_service[service], key=_age, reverse=True)
        merged.places[service] = sum(offer.concurrency for offer in newest_first)
        for kind in KINDS:
            entries = merged.entries(kind)
            for key, holders in _holders(newest_first, kind).items():
                owner = owners.setdefault((kind, key), service)
                if owner == service:
                    entries[key] = _entry(kind, holders)
                else:
                    merged.refusals.update(_conflict(key, owner, offer) for offer, _ in holders)
    for kind in KINDS:
        entries = merged.entries(kind)
        ordered = sorted(entries.items())
        entries.clear()
        entries.update(ordered)
    return merged


def _age(offer: Offer) -> tuple[int, Version | str, float, str]:
    """Sorts by version, then start, then instance. Versions that are none sort as text, below real ones."""
    try:
        return 1, Version(offer.version), offer.started_at.timestamp(), offer.instance
    except InvalidVersion:
        return 0, offer.version, offer.started_at.timestamp(), offer.instance


def _holders(newest_first: list[Offer], kind: str) -> dict[str, list[tuple[Offer, Item[Any]]]]:
    found: dict[str, list[tuple[Offer, Item[Any]]]] = {}
    for offer in newest_first:
        for key, item in offer.items(kind).items():
            found.setdefault(key, []).append((offer, item))
    return found


def _entry(kind: str, holders: list[tuple[Offer, Item[Any]]]) -> Entry:
    newest, item = holders[0]
    instances = tuple(sorted(offer.instance for offer, _ in holders))
    completions = frozenset().union(*(offer.completions for offer, _ in holders))
    if kind == TOOLS:
        return ToolEntry(
            name=item.key,
            service=newest.service,
            version=newest.version,
            spec=item.spec,
            instances=instances,
            param_headers=item.param_headers,
            # Nobody knows which instance will have the call.
            two_person=all(one.spec.two_person for _, one in holders),
            wire=item.wire,
        )
    if kind == PROMPTS:
        return PromptEntry(item.key, newest.service, newest.version, item.spec, instances, completions, item.wire)
    return ResourceEntry(newest.service, newest.version, item.spec, instances, completions, item.wire)


def _conflict(key: str, owner: str, offer: Offer) -> Refusal:
    return Refusal(offer.service, offer.instance, key, f"the service {owner!r} announces the same name")
