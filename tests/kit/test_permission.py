"""Deciding on a call: denials, allowances, and both under conditions on what the call touches. Fail closed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsbus import Context, ErrorCode, Worker
from opsbus.permission import decide, may, said, touched
from opsbus.testing.caller import Caller
from opsbus.testing.plugin import RunWorker
from opsbus_contracts.identity import Grant, Identity, audience

STAGING = Grant(permission="k8s:scale", where={"namespace": ["*-staging", "dev"]})
NOT_PROD = Grant(effect="deny", permission="k8s:*", where={"namespace": ["prod*"]})


def namespaces(*names: str) -> dict[str, tuple[str, ...]]:
    return {"namespace": names}


@pytest.mark.parametrize(
    ("permissions", "grants", "touches", "permitted"),
    [
        (("k8s:scale",), (), {}, True),
        (("k8s:*", "!k8s:scale"), (), {}, False),
        ((), (STAGING,), namespaces("shop-staging"), True),
        ((), (STAGING,), namespaces("dev"), True),
        ((), (STAGING,), namespaces("dev", "shop-staging"), True),
        ((), (STAGING,), namespaces("dev", "shop"), False),
        ((), (STAGING,), namespaces("shop"), False),
        ((), (STAGING,), namespaces("shop-staging "), False),
        ((), (STAGING,), namespaces("Dev"), False),
        ((), (STAGING,), namespaces("d\u0435v"), False),
        ((), (STAGING,), namespaces("shop-staging\n"), False),
        ((), (STAGING,), namespaces("*"), False),
        ((), (STAGING,), {}, False),
        ((), (STAGING,), {"cluster": ("dev",)}, False),
        (("!k8s:*",), (STAGING,), namespaces("dev"), False),
        (("k8s:scale",), (NOT_PROD,), namespaces("shop"), True),
        (("k8s:scale",), (NOT_PROD,), namespaces("prod-eu"), False),
        (("k8s:scale",), (NOT_PROD,), namespaces("shop", "prod-eu"), False),
        (("k8s:scale",), (NOT_PROD,), {}, False),
        (("cmdb:read",), (NOT_PROD,), {}, False),
    ],
)
def test_decisions(permissions: Any, grants: Any, touches: Any, permitted: bool) -> None:
    assert decide(permissions, grants, "k8s:scale", touches).permitted is permitted


def test_why_is_told() -> None:
    refused = decide((), (STAGING,), "k8s:scale", namespaces("shop"))
    assert (refused.by, refused.possible) == ("", (STAGING,))
    assert decide((), (STAGING,), "k8s:scale", namespaces("dev")).by == said(STAGING)
    assert said(STAGING) == "k8s:scale where namespace in *-staging, dev"
    assert decide(("*",), (NOT_PROD,), "k8s:get", namespaces("prod")).by == "!k8s:* where namespace in prod*"


def test_lists_show_what_some_call_may_do() -> None:
    assert may((), (STAGING,), "k8s:scale")
    assert not may((), (STAGING,), "k8s:get")
    assert not may(("!k8s:scale",), (STAGING,), "k8s:scale")
    assert not may((), (NOT_PROD,), "k8s:scale")
    assert may(("k8s:*",), (NOT_PROD,), "k8s:scale")


@pytest.mark.parametrize(
    ("arguments", "scope", "found"),
    [
        ({"namespace": "shop"}, {}, {"namespace": ("shop",)}),
        ({"namespaces": ["a", "b", "a"]}, {}, {"namespace": ("a", "b")}),
        ({"namespace": "a", "namespaces": ["b"]}, {}, {"namespace": ("a", "b")}),
        ({"target": "a", "namespace": "b"}, {"namespace": "target"}, {"namespace": ("a",)}),
        ({"namespace": None}, {}, {}),
        ({"namespaces": []}, {}, {}),
        ({"namespace": ""}, {}, {}),
        ({"namespace": 5}, {}, {}),
        ({"namespaces": ["a", None]}, {}, {}),
        ({"namespaces": ["a", ["b"]]}, {}, {}),
        ({"namespaces": {"a": 1}}, {}, {}),
        ({"namespace": "a", "namespaces": [7]}, {}, {}),
        ({"namespaces": ["a"] * 1_001}, {}, {}),
        ({}, {}, {}),
        ([], {}, {}),
        ("namespace", {}, {}),
        ({"cluster": "lab", "service": "web"}, {}, {"cluster": ("lab",), "service": ("web",)}),
    ],
)
def test_what_a_call_touches(arguments: Any, scope: dict[str, str], found: dict[str, tuple[str, ...]]) -> None:
    assert touched(arguments, scope) == found


_names = st.text("abp-*", min_size=1, max_size=4)
_dimensions = st.sampled_from(["namespace", "cluster"])
_grants = st.builds(
    Grant,
    effect=st.sampled_from(["allow", "deny"]),
    permission=st.sampled_from(["k8s:*", "k8s:scale", "*", "cmdb:read"]),
    where=st.dictionaries(
        st.sampled_from(["namespace", "cluster"]), st.lists(_names, min_size=1, max_size=2), min_size=1
    ),
)


@given(
    st.lists(st.sampled_from(["k8s:*", "!k8s:scale", "*", "cmdb:*"]), max_size=3),
    st.lists(_grants, max_size=4),
    st.dictionaries(_dimensions, st.lists(_names, min_size=1, max_size=3).map(tuple)),
)
def test_knowing_less_never_permits_more(permissions: list[str], grants: list[Grant], touches: Any) -> None:
    held = tuple(sorted(permissions))
    if decide(held, grants, "k8s:scale", touches).permitted:
        assert may(held, grants, "k8s:scale")
        assert decide(held, [g for g in grants if g.effect == "allow"], "k8s:scale", touches).permitted
    if decide(held, grants, "k8s:scale", {}).permitted:
        assert decide(held, [g for g in grants if g.effect == "allow"], "k8s:scale", touches).permitted
    assert not decide((*held, "!k8s:*"), grants, "k8s:scale", touches).permitted


def scaler(ran: list[str]) -> Worker:
    worker = Worker("test", version="1.0.0")

    @worker.tool(permission="k8s:scale", scope={"namespace": "place"})
    async def scale(ctx: Context[None], place: str = "prod") -> str:
        ran.append(place)
        return place

    return worker


async def test_a_worker_holds_to_the_conditions_of_the_identity(run_worker: RunWorker, caller: Caller) -> None:
    import time

    ran: list[str] = []
    now = int(time.time())
    identity = Identity(
        sub="ann", permissions=["cmdb:*"], grants=[STAGING], iat=now, exp=now + 60, aud=audience("test")
    )
    async with run_worker(scaler(ran)):
        assert (await caller.call("test", "scale", {"place": "shop-staging"}, identity=identity)).executed == "yes"
        for arguments in ({"place": "shop"}, {}, {"namespace": "dev"}, {"place": "shop", "namespace": "dev"}):
            error = (await caller.call("test", "scale", arguments, identity=identity)).error
            assert error.code is ErrorCode.FORBIDDEN, arguments
            assert "namespace in *-staging" in error.hint
        denied = identity.model_copy(update={"permissions": ["*", "!k8s:*"]})
        refused = (await caller.call("test", "scale", {"place": "shop-staging"}, identity=denied)).error
        assert refused.code is ErrorCode.FORBIDDEN
    assert ran == ["shop-staging"]


@pytest.mark.parametrize("scope", [{"namespace": "nowhere"}, {"region": "place"}])
def test_a_wrong_scope_is_refused_when_the_tool_is_written(scope: dict[str, str]) -> None:
    worker = Worker("test", version="1.0.0")

    async def scale(ctx: Context[None], place: str) -> str:
        return place

    with pytest.raises(ValueError, match="scope"):
        worker.tool(permission="k8s:scale", scope=scope)(scale)
