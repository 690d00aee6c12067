"""What an outage hits: the rules, on graphs made here; and the tools over the real bus."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsbus.testing.caller import Caller
from opsbus_cmdb.app import build
from opsbus_cmdb.impact import Graph, Level, passed_on, reckon
from opsbus_cmdb.model import Asset, Criticality, Lifecycle, Relationship, RelationType, Status
from opsbus_contracts import ErrorCode

NOW = datetime(2026, 11, 21, tzinfo=UTC)
OUTAGE, DEGRADED, AT_RISK = Level.OUTAGE, Level.DEGRADED, Level.AT_RISK


def asset(name: str, **fields: Any) -> Asset:
    known = {
        "id": name, "ref": f"service:shop/{name}", "kind": "service", "name": name, "lifecycle": Lifecycle.ACTIVE,
        "status": Status.OPERATIONAL, "criticality": Criticality.HIGH, "version": 1, "created_at": NOW,
        "updated_at": NOW, "last_seen": NOW,
    }  # fmt: skip
    return Asset.model_validate(known | fields)


def needs(source: str, target: str, impact: str = "hard", redundancy: str = "none", **fields: Any) -> Relationship:
    return Relationship(
        id=f"{source}-{target}", from_id=source, to_id=target, type=RelationType.DEPENDS_ON, impact=impact,
        redundancy=redundancy, **({"last_seen": NOW} | fields),
    )  # fmt: skip


def graph(*edges: Relationship, **assets: Asset) -> Graph:
    made = Graph()
    names = {name for edge in edges for name in (edge.from_id, edge.to_id)}
    made.add((assets.get(name) or asset(name) for name in names), edges)
    return made


@pytest.mark.parametrize(
    ("level", "impact", "redundancy", "expected"),
    [
        (OUTAGE, "hard", "none", OUTAGE),
        (OUTAGE, "hard", "", OUTAGE),
        (OUTAGE, "hard", "standby", DEGRADED),
        (OUTAGE, "hard", "active_active", DEGRADED),
        (OUTAGE, "soft", "none", DEGRADED),
        (OUTAGE, "soft", "standby", AT_RISK),
        (OUTAGE, "soft", "active_active", AT_RISK),
        (DEGRADED, "hard", "none", DEGRADED),
        (DEGRADED, "hard", "active_active", AT_RISK),
        (DEGRADED, "soft", "none", AT_RISK),
        (AT_RISK, "hard", "none", AT_RISK),
        (AT_RISK, "soft", "multi_host", AT_RISK),
    ],
)
def test_what_a_relationship_passes_on(level: Level, impact: str, redundancy: str, expected: Level) -> None:
    assert passed_on(level, needs("a", "b", impact, redundancy)) is expected


def test_the_worst_way_counts_and_cycles_end() -> None:
    made = graph(
        needs("web", "api", "soft"), needs("web", "auth"), needs("api", "db", redundancy="active_active"),
        needs("auth", "db"), needs("db", "web"), needs("other", "unrelated"),
    )  # fmt: skip
    hits = {hit.asset.id: hit for hit in reckon(made, ["db"], NOW)}
    assert {name: hit.level for name, hit in hits.items()} == {"auth": OUTAGE, "web": OUTAGE, "api": DEGRADED}
    assert hits["web"].via == ("service:shop/auth",)
    assert hits["web"].steps == 2
    assert hits["auth"].confidence > hits["web"].confidence


def test_what_nobody_has_seen_lately_is_less_sure() -> None:
    old = NOW - timedelta(days=30)
    fresh, stale = graph(needs("a", "b")), graph(needs("a", "b", last_seen=old))
    assert reckon(stale, ["b"], NOW)[0].confidence == pytest.approx(reckon(fresh, ["b"], NOW)[0].confidence / 2)
    unsure = graph(needs("a", "b"), a=asset("a", confidence=0.4))
    assert reckon(unsure, ["b"], NOW)[0].confidence < 0.4


_names = st.sampled_from("abcdefgh")
_edges = st.lists(
    st.tuples(_names, _names, st.sampled_from(["hard", "soft"]), st.sampled_from(["none", "standby", "active_active"])),
    max_size=25,
)


@given(_edges, _names)
def test_any_graph_ends_and_nothing_is_hit_worse_than_what_it_needs(edges: list[Any], root: str) -> None:
    made = graph(*(needs(*edge) for edge in edges), needs("z", root))
    hits = {hit.asset.id: hit for hit in reckon(made, [root], NOW)}
    assert root not in hits
    assert "z" in hits
    for name, hit in hits.items():
        ways = [edge for edge in made.edges.values() if edge.from_id == name]
        levels = [
            OUTAGE if edge.to_id == root else hits[edge.to_id].level for edge in ways if edge.to_id in {*hits, root}
        ]
        passed = [
            passed_on(OUTAGE if edge.to_id == root else hits[edge.to_id].level, edge)
            for edge in ways
            if edge.to_id in {*hits, root}
        ]
        assert hit.level == max(passed)
        assert hit.level <= max(levels)
        assert 0 < hit.confidence <= 1


@pytest.fixture
async def cmdb(run_worker: Any, database_url: str) -> Any:
    async with run_worker(build(), database_url=database_url, seed="shop") as running:
        yield running


async def test_an_outage_of_a_database_and_a_lost_host(cmdb: Any, caller: Caller) -> None:
    reply = await caller.call("cmdb", "get_impact", {"asset": "database:shop/catalog-db"})
    answer = reply.structured
    levels = {row["ref"]: row["level"] for row in answer["items"]}
    assert levels["service:shop/catalog"] == "outage"
    assert levels["service:shop/frontend"] == "degraded"
    assert levels["service:shop/recommendations"] == "degraded"
    assert answer["counts"] == {level: list(levels.values()).count(level) for level in answer["counts"]}
    assert answer["teams"]["catalog"] == 1
    assert "outage service:shop/catalog" in reply.text
    assert answer["fails"] == ["database:shop/catalog-db"]
    host = (await caller.call("cmdb", "get_impact", {"asset": "host:lab/lab-worker-2"})).structured
    levels = {row["ref"]: row["level"] for row in host["items"]}
    assert levels["cluster:lab/lab"] == "at_risk"
    assert set(levels.values()) == {"at_risk"}
    assert "CHG0004131" in {item["number"] for item in host["changes"]}
    assert not [ref for ref in levels if ref.startswith("host:")], "the other hosts of the cluster are not hit"


async def test_a_change_is_the_outage_of_all_it_touches(cmdb: Any, caller: Caller) -> None:
    answer = (await caller.call("cmdb", "get_impact", {"change": "CHG0004135"})).structured
    assert answer["fails"] == ["database:payments/ledger-postgres"]
    assert answer["items"][0]["ref"] == "service:payments/ledger"
    assert "CHG0004135" not in {item["number"] for item in answer["changes"]}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, ErrorCode.INVALID_ARGUMENTS),
        ({"asset": "service:shop/cart", "change": "CHG0004135"}, ErrorCode.INVALID_ARGUMENTS),
        ({"asset": "service:shop/carrt"}, ErrorCode.NOT_FOUND),
        ({"change": "CHG9"}, ErrorCode.NOT_FOUND),
        ({"asset": "service:shop/cart", "depth": 9}, ErrorCode.INVALID_ARGUMENTS),
        ({"asset": "service:shop/cart", "level": "outage"}, ErrorCode.INVALID_ARGUMENTS),
    ],
)
async def test_wrong_questions_about_impact(cmdb: Any, caller: Caller, arguments: Any, code: ErrorCode) -> None:
    error = (await caller.call("cmdb", "get_impact", arguments)).error
    assert error.code is code


async def test_a_cut_walk_says_so(cmdb: Any, caller: Caller) -> None:
    answer = (await caller.call("cmdb", "get_impact", {"asset": "cluster:lab/lab", "node_limit": 5})).structured
    assert answer["page"]["truncated"]
    assert "node_limit" in answer["warnings"][0]


async def test_who_owns(cmdb: Any, caller: Caller) -> None:
    reply = await caller.call("cmdb", "who_owns", {"target": "service:shop/checkout"})
    assert reply.structured["owner_team"] == "checkout"
    assert reply.structured["contacts"] == {"contact": "checkout@shop.example", "on_call": "checkout-on-call"}
    assert reply.structured["needed_by_teams"] == {"storefront": 1}
    assert "belongs to checkout" in reply.text
    assert (await caller.call("cmdb", "who_owns", {"target": "service:shop/chekout"})).error.did_you_mean


@pytest.mark.parametrize(
    ("assets", "start", "end", "kinds", "free"),
    [
        (["service:shop/recommendations"], "now+2h", "now+3h", [], True),
        (["service:shop/recommendations"], "now+2d", "now+50h", ["freeze"], False),
        (["service:shop-staging/cart"], "now+2d", "now+50h", [], True),
        (["host:lab/lab-worker-2"], "now+27h", "now+28h", ["same_asset"], False),
        (["cluster:lab/lab"], "now+27h", "now+28h", ["dependent"], True),
        (["service:payments/ledger"], "now+50h", "now+51h", ["dependency", "freeze"], False),
        (["service:shop/recommendations"], "now-2h", "now+1h", ["in_the_past"], False),
    ],
)
async def test_conflicts(
    cmdb: Any, caller: Caller, assets: list[str], start: str, end: str, kinds: list[str], free: bool
) -> None:
    reply = await caller.call("cmdb", "check_change_conflicts", {"assets": assets, "start": start, "end": end})
    answer = reply.structured
    assert sorted(item["kind"] for item in answer["conflicts"]) == kinds
    assert answer["free"] is free
    if free:
        assert answer["next_free"] is None
        return
    again = {"assets": assets, "start": answer["next_free"]}
    length = datetime.fromisoformat(answer["end"]) - datetime.fromisoformat(answer["start"])
    again["end"] = (datetime.fromisoformat(answer["next_free"]) + length).isoformat()
    if "in_the_past" not in kinds:
        assert (await caller.call("cmdb", "check_change_conflicts", again)).structured["free"]


async def test_a_recorded_change_is_checked_against_the_calendar_and_not_against_itself(
    cmdb: Any, caller: Caller
) -> None:
    answer = (
        await caller.call(
            "cmdb", "check_change_conflicts", {"change": "CHG0004135", "start": "now+50h", "end": "now+51h"}
        )
    ).structured
    assert [item["kind"] for item in answer["conflicts"]] == ["freeze"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"start": "now+1h", "end": "now+2h"},
        {"assets": ["service:shop/cart"], "start": "now+2h", "end": "now+1h"},
        {"assets": ["service:shop/cart"], "start": "soon", "end": "now+1h"},
        {"assets": ["service:shop/cart"], "start": "now", "end": "now+90d"},
        {"assets": ["service:shop/cart"] * 21, "start": "now", "end": "now+1h"},
        {"assets": ["service:shop/cart"], "change": "CHG0004135", "start": "now", "end": "now+1h"},
    ],
)
async def test_wrong_questions_about_conflicts(cmdb: Any, caller: Caller, arguments: Any) -> None:
    error = (await caller.call("cmdb", "check_change_conflicts", arguments)).error
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    assert error.hint
