"""Ownership that is inherited: by belonging to or running on, never by merely depending on."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from opsbus_cmdb.model import Asset, Criticality, Lifecycle, Relationship, RelationType, Status
from opsbus_cmdb.owner_tools import _owned_above
from opsbus_cmdb.seed import Estate
from opsbus_cmdb.store import EmbeddedInventory

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def asset(name: str, owner: str = "") -> Asset:
    return Asset(
        id=name, ref=f"service:shop/{name}", kind="service", name=name, lifecycle=Lifecycle.ACTIVE, owner_team=owner,
        status=Status.OPERATIONAL, criticality=Criticality.HIGH, version=1, created_at=NOW, updated_at=NOW,
    )  # fmt: skip


def edge(source: str, kind: str, target: str) -> Relationship:
    return Relationship(id=f"{source}-{kind}-{target}", from_id=source, to_id=target, type=RelationType(kind))


@pytest.fixture
async def filled(database_url: str) -> AsyncIterator[Any]:
    """A function that fills the store with relationships between assets with these owners, and opens it."""
    opened = EmbeddedInventory(database_url)
    await opened.create()

    async def fill(owners: dict[str, str], *edges: Relationship) -> EmbeddedInventory:
        assert await opened.load(Estate(assets=[asset(*item) for item in owners.items()], relationships=list(edges)))
        return opened

    yield fill
    await opened.close()


async def owner_above(store: EmbeddedInventory, name: str = "a") -> str | None:
    found = await _owned_above(store, await store.get_asset(name))
    return found.id if found else None


async def test_the_whole_it_belongs_to_gives_its_owner(filled: Any) -> None:
    store = await filled({"a": "", "whole": "platform"}, edge("a", "part_of", "whole"))
    assert await owner_above(store) == "whole"


async def test_what_it_depends_on_or_stores_in_gives_none(filled: Any) -> None:
    store = await filled(
        {"a": "", "api": "payments", "db": "data"}, edge("a", "depends_on", "api"), edge("a", "stores_in", "db")
    )
    assert await owner_above(store) is None


async def test_the_nearest_owner_wins_and_the_unowned_between_are_passed(filled: Any) -> None:
    owners = {"a": "", "pod": "", "host": "platform", "cluster": "infra", "dc": "facilities"}
    store = await filled(
        owners, edge("a", "part_of", "pod"), edge("pod", "runs_on", "host"), edge("host", "part_of", "cluster"),
        edge("cluster", "part_of", "dc"),
    )  # fmt: skip
    assert await owner_above(store) == "host"


async def test_an_owner_behind_a_dependency_is_not_inherited(filled: Any) -> None:
    # a only depends on the api; that the api runs on an owned host says nothing about whose a is.
    store = await filled(
        {"a": "", "api": "", "host": "platform"}, edge("a", "depends_on", "api"), edge("api", "runs_on", "host")
    )
    assert await owner_above(store) is None


async def test_a_circle_of_the_unowned_ends(filled: Any) -> None:
    store = await filled({"a": "", "b": ""}, edge("a", "part_of", "b"), edge("b", "part_of", "a"))
    assert await owner_above(store) is None


async def test_further_than_three_steps_nobody_looks(filled: Any) -> None:
    owners = {"a": "", "b": "", "c": "", "d": "", "e": "far"}
    chain = [edge(x, "part_of", y) for x, y in zip("abcd", "bcde", strict=True)]
    assert await owner_above(await filled(owners, *chain)) is None
