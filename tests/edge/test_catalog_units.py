"""The catalogue without a bus: merging, conflicts, refusals, pages, schemas."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsbus_contracts.catalog import MANIFEST_BYTES_MAX
from opsbus_edge.catalog import Catalog, InvalidCursorError
from opsbus_edge.catalog.pages import decode_cursor, encode_cursor
from opsbus_edge.catalog.parse import parse_manifest
from opsbus_edge.catalog.schemas import DEPTH_MAX, schema_problem
from opsbus_edge.model import Caller

HINTS = {"readOnlyHint": True, "destructiveHint": False, "idempotentHint": True, "openWorldHint": False}
ADMIN = Caller("a", ("admin",), ("*",), "jwt", "admin")


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": HINTS, "permission": "a:get"} | more


def manifest(service: str, instance: str, *tools: Any, version: str = "1.0.0", **more: Any) -> bytes:
    head = {"service": service, "instance": instance, "version": version, "started_at": "2026-01-01T00:00:00Z"}
    return json.dumps(head | {"tools": list(tools)} | more).encode()


def filled(*manifests: bytes, **options: Any) -> Catalog:
    catalog = Catalog(**options)
    for raw in manifests:
        head = json.loads(raw)
        catalog.put(f"{head['service']}.{head['instance']}", raw)
    catalog.rebuild()
    return catalog


def names(catalog: Catalog, caller: Caller = ADMIN) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = catalog.tools_page(caller, cursor)
        found += [item["name"] for item in json.loads(page.items_json)]
        cursor = page.next_cursor
        if cursor is None:
            return found


def test_the_newest_version_wins_and_the_union_is_offered() -> None:
    catalog = filled(
        manifest("k8s", "k8s-1", tool("get", description="old"), tool("gone"), version="1.9.0"),
        manifest("k8s", "k8s-2", tool("get", description="new"), tool("fresh"), version="1.10.0"),
    )
    assert names(catalog) == ["k8s_fresh", "k8s_get", "k8s_gone"]
    entry = catalog.tool("k8s_get")
    assert entry is not None
    assert (entry.spec.description, entry.version, entry.instances) == ("new", "1.10.0", ("k8s-1", "k8s-2"))
    assert catalog.services() == {"k8s": {"instances": {"k8s-1": "1.9.0", "k8s-2": "1.10.0"}, "tools": 3}}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_name_two_services_announce_stays_with_the_smaller_token_in_any_order(order: tuple[int, int]) -> None:
    both = [manifest("a", "a-1", tool("b_get")), manifest("a_b", "ab-1", tool("get"), tool("other"))]
    catalog = filled(*(both[index] for index in order))
    entry = catalog.tool("a_b_get")
    assert entry is not None
    assert entry.service == "a"
    assert names(catalog) == ["a_b_get", "a_b_other"]
    (refusal,) = catalog.refusals
    assert (refusal.service, refusal.item) == ("a_b", "a_b_get")
    assert "'a'" in refusal.reason
    catalog.remove("a.a-1")
    catalog.rebuild()
    assert catalog.refusals == ()
    entry = catalog.tool("a_b_get")
    assert entry is not None
    assert entry.service == "a_b"


BAD_ITEMS = {
    "bad name": tool("Get-Pods"),
    "name too long": tool("x" * 61),
    "no schema": {k: v for k, v in tool("x").items() if k != "inputSchema"},
    "schema of a list": tool("x", inputSchema={"type": "array"}),
    "schema invalid": tool("x", inputSchema={"type": "object", "properties": {"a": {"type": "strin"}}}),
    "schema far away": tool("x", inputSchema={"type": "object", "$ref": "https://example.com/schema.json"}),
    "schema of nothing": tool("x", inputSchema={"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}),
    "output schema invalid": tool("x", outputSchema={"type": 5}),
    "a hint missing": tool("x", annotations={"readOnlyHint": True}),
    "no permission": tool("x", permission=""),
    "header annotation invalid": tool(
        "x", inputSchema={"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}
    ),
    "not an object": "x",
    "nothing": None,
    "timeout without end": tool("x", timeout_s=1e9),
}


@pytest.mark.parametrize("kind", BAD_ITEMS)
def test_a_bad_item_is_refused_alone(kind: str) -> None:
    catalog = filled(manifest("demo", "demo-1", tool("good"), BAD_ITEMS[kind]))
    assert names(catalog) == ["demo_good"]
    (refusal,) = catalog.refusals
    assert refusal.item
    assert refusal.reason
    assert len(refusal.reason) < 500


BAD_MANIFESTS = {
    "empty": b"",
    "garbage": b"\x00\xff garbage",
    "a list": b"[]",
    "another service": manifest("other", "demo-1", tool("x")),
    "another instance": manifest("demo", "demo-2", tool("x")),
    "no version": json.dumps({"service": "demo", "instance": "demo-1", "tools": []}).encode(),
    "too large": manifest("demo", "demo-1", tool("x", description="y" * MANIFEST_BYTES_MAX)),
    "deep": b"[" * 100_000,
    "tools no list": manifest("demo", "demo-1", tools={"a": 1}) if False else b"",
}


@pytest.mark.parametrize("kind", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused_and_the_others_stay(kind: str) -> None:
    catalog = filled(manifest("k8s", "k8s-1", tool("get")))
    catalog.put("demo.demo-1", BAD_MANIFESTS[kind])
    catalog.rebuild()
    assert names(catalog) == ["k8s_get"]
    (refusal,) = catalog.refusals
    assert (refusal.service, refusal.instance, refusal.item) == ("demo", "demo-1", "")


def test_tools_that_are_no_list_are_refused_as_a_whole() -> None:
    raw = json.loads(manifest("demo", "demo-1")) | {"tools": {"a": 1}}
    offer, refusals = parse_manifest("demo.demo-1", json.dumps(raw).encode())
    assert offer is not None
    assert offer.tools == {}
    assert refusals[0].item == "tools"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_manifest_or_refused(raw: bytes) -> None:
    offer, refusals = parse_manifest("demo.demo-1", raw)
    assert (offer is None) == bool(refusals and refusals[0].item == "")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(
    st.lists(st.dictionaries(st.sampled_from([*tool("x"), "outputSchema", "_meta", "timeout_s"]), _json), max_size=3)
)
def test_any_tools_are_taken_or_refused_one_by_one(tools: list[Any]) -> None:
    offer, refusals = parse_manifest("demo.demo-1", manifest("demo", "demo-1", *tools))
    assert offer is not None
    assert len(offer.tools) + len(refusals) == len(tools)


def test_a_refusal_is_told_once_per_change() -> None:
    told: list[str] = []
    catalog = Catalog(on_refused=lambda refusal: told.append(refusal.reason))
    bad = manifest("demo", "demo-1", tool("x", permission=""))
    for _ in range(3):
        catalog.put("demo.demo-1", bad)
        catalog.rebuild()
    assert len(told) == 1
    catalog.put("demo.demo-1", manifest("demo", "demo-1", tool("x")))
    catalog.rebuild()
    catalog.put("demo.demo-1", bad)
    catalog.rebuild()
    assert len(told) == 2


def test_subscribers_hear_of_changes_alone() -> None:
    catalog = Catalog()
    heard: list[set[str]] = []

    def broken(kinds: set[str]) -> None:
        raise RuntimeError("a subscriber's bug")

    catalog.subscribe(broken)
    stop = catalog.subscribe(heard.append)
    catalog.put("demo.demo-1", manifest("demo", "demo-1", tool("x")))
    catalog.rebuild()
    catalog.put("demo.demo-2", manifest("demo", "demo-2", tool("x")))
    catalog.rebuild()
    resource = {"uri": "x://y", "name": "y", "permission": "a:get"}
    catalog.put("demo.demo-1", manifest("demo", "demo-1", tool("x"), resources=[resource]))
    catalog.rebuild()
    assert heard == [{"tools"}, {"resources"}]
    stop()
    catalog.remove("demo.demo-1")
    catalog.remove("demo.demo-2")
    catalog.rebuild()
    assert len(heard) == 2


def test_resources_match_exactly_before_templates() -> None:
    one = {"uri": "x://pods/all", "name": "all", "permission": "a:get"}
    family = {"uriTemplate": "x://pods/{name}", "name": "pod", "permission": "a:get"}
    raw = manifest("demo", "demo-1", resources=[one], resource_templates=[family, {**family, "uriTemplate": "x://{"}])
    catalog = filled(raw)
    assert catalog.resource("x://pods/all").spec.name == "all"  # type: ignore[union-attr]
    assert catalog.resource("x://pods/web-1").spec.name == "pod"  # type: ignore[union-attr]
    assert catalog.resource("x://pods/a/b") is None
    assert catalog.resource("x" * 100_000) is None
    assert [refusal.item for refusal in catalog.refusals] == ["x://{"]


def test_pages_hold_together_while_the_catalogue_changes() -> None:
    catalog = filled(manifest("demo", "demo-1", *(tool(f"t{n:02}") for n in range(10))), page_size=4)
    first = catalog.tools_page(ADMIN)
    # t01 to t04 go, t035 comes behind the cursor's key
    kept = [tool(f"t{n:02}") for n in (0, *range(5, 10))] + [tool("t035")]
    catalog.put("demo.demo-1", manifest("demo", "demo-1", *kept))
    catalog.rebuild()
    second = catalog.tools_page(ADMIN, first.next_cursor)
    assert [item["name"][5:] for item in json.loads(second.items_json)] == ["t035", "t05", "t06", "t07"]


def test_what_a_caller_sees_depends_on_permissions_alone() -> None:
    catalog = filled(manifest("demo", "demo-1", tool("a"), tool("b", permission="b:write")))
    seen = Caller("x", (), ("a:*",), "jwt", "a")
    all_but = Caller("y", (), ("!b:write", "*"), "jwt", "n")
    assert names(catalog, seen) == ["demo_a"] == names(catalog, all_but)
    assert names(catalog, Caller("z", (), (), "jwt", "none")) == []


def test_a_thousand_tools_fit_on_a_page_by_default() -> None:
    parts = [manifest("demo", f"demo-{n}", *(tool(f"t{n}_{m}") for m in range(500))) for n in range(2)]
    catalog = filled(*parts)
    page = catalog.tools_page(ADMIN)
    assert len(json.loads(page.items_json)) == 1_000
    assert page.next_cursor is None
    assert catalog.tools_page(ADMIN) is page


@given(st.text(min_size=1, max_size=64))
def test_cursors_round_trip(key: str) -> None:
    try:
        key.encode()
    except UnicodeEncodeError:
        return
    assert decode_cursor("tools", encode_cursor("tools", key)) == key
    with pytest.raises(InvalidCursorError):
        decode_cursor("prompts", encode_cursor("tools", key))


@given(st.text(max_size=40))
def test_a_made_up_cursor_is_refused_or_harmless(cursor: str) -> None:
    catalog = filled(manifest("demo", "demo-1", tool("a")))
    with contextlib.suppress(InvalidCursorError):
        assert catalog.tools_page(ADMIN, cursor).items_json.startswith(b"[")


def test_schemas_within_bounds_pass_and_deep_ones_do_not() -> None:
    node: dict[str, Any] = {"type": "string"}
    for _ in range(DEPTH_MAX):
        node = {"type": "object", "properties": {"a": node}}
    assert "deeper" in str(schema_problem(node, root_object=True))
    wide = {"type": "object", "properties": {f"p{n}": {"enum": list(range(100))} for n in range(300)}}
    assert "values" in str(schema_problem(wide, root_object=True))
    good = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"name": {"type": "string", "$anchor": "n"}},
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/name"}, "b": {"$ref": "#n"}, "c": {"$ref": "#"}},
    }
    assert schema_problem(good, root_object=True) is None
    assert "dialect" in str(schema_problem({"$schema": "https://example.com/s", "type": "object"}, root_object=True))
