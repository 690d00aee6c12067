"""A diagnosis with what others tell: alerts that fire, and the owner the CMDB has; nothing where nobody tells."""

from typing import Any

import pytest

from opsbus.alerts_told import ToldAlert
from opsbus.event_teller import Teller
from opsbus.owners import Owned, part_of
from opsbus.testing.bus import Bus
from opsbus.testing.waiting import until
from opsbus_k8s_ops.beside import Beside, FiringAlert, _names
from opsbus_k8s_ops.diagnosis import Finding
from opsbus_k8s_ops.tool_diagnose import with_alerts

from .conftest import identity
from .test_k8s_reads import schema_of

WITHIN_S = 30.0


def owned(name: str, team: str, kind: str = "service", namespace: str = "shop", **more: Any) -> Owned:
    ref = f"{kind}:{namespace}/{name}"
    return Owned(ref=ref, kind=kind, namespace=namespace, name=name, owner_team=team, **more)


def told(name: str, severity: str, **labels: str) -> dict[str, Any]:
    labels = {"alertname": name, "severity": severity, "namespace": "shop", **labels}
    return {
        "fingerprint": f"fp-{name}", "alertname": name, "severity": severity, "labels": labels,
        "starts_at": "2026-11-21T10:00:00Z", "summary": "password=hunter2 is too slow", "owner": None,
    }  # fmt: skip


async def test_alerts_and_owner_stand_in_a_diagnosis(ask: Any, bus: Bus) -> None:
    before = (await ask("diagnose_workload", namespace="shop", workload="cart")).structured
    assert "alerts" not in before
    await Teller(await bus.connect("cmdb"), "cmdb").tell(
        "owners_listed",
        part_of(
            "a", 1, 1, [owned("cart", "checkout", contact="checkout-on-call"), owned("redis", "platform", "cache")]
        ),
    )
    monitoring = Teller(await bus.connect("monitoring"), "monitoring")
    await monitoring.tell("alert_firing", told("Slow", "warning", service="cart"))
    await monitoring.tell("alert_firing", told("Down", "critical", pod="cart-7d9f8c5b4-x7k2p"))
    await monitoring.tell("alert_firing", told("Over", "critical", service="cart"))
    await monitoring.tell("alert_resolved", told("Over", "critical", service="cart"))
    await monitoring.tell("alert_firing", told("Other", "critical", service="catalog"))

    async def both() -> Any:
        found = await ask("diagnose_workload", role="operator", namespace="shop", workload="cart")
        return found if len(found.structured.get("alerts") or []) == 2 and "contact" in found.structured else None

    reply = await until(both, WITHIN_S)
    found = reply.structured
    schema_of("diagnose_workload").validate(found)
    assert [alert["name"] for alert in found["alerts"]] == ["Down", "Slow"]
    assert "hunter2" not in reply.text
    assert found["contact"] == "checkout-on-call"
    assert found["owner_from"] in ("object", "cmdb")
    assert any(finding["what"].startswith("2 alerts fire for it") for finding in found["findings"])
    assert "Alert Down (critical)" in reply.text

    who = identity("viewer").model_copy(update={"permissions": ["k8s:get"]})
    asked = {"namespace": "shop", "workload": "cart"}
    less = (await ask("diagnose_workload", options={"identity": who}, **asked)).structured
    assert "alerts" not in less
    assert any("alerts:read" in warning for warning in less["warnings"])
    assert bus.errors == []


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"deployment": "cart"}, True),
        ({"deployment": "cart-worker", "service": "cart"}, False),
        ({"pod": "cart-7d9f8c5b4-x7k2p"}, True),
        ({"pod": "cart-0"}, True),
        ({"pod": "cart-worker-7d9f8c5b4-x7k2p"}, False),
        ({"pod": "exporter-abcde", "service": "cart"}, False),
        ({"app": "cart"}, True),
        ({"service": "cart", "cluster": "elsewhere"}, False),
        ({"service": "cart", "cluster": "unknown"}, True),
        ({"service": "cart", "namespace": "payments"}, False),
        ({}, False),
    ],
)
def test_which_alerts_are_of_a_workload(labels: dict[str, str], named: bool) -> None:
    data = told("x", "critical", **labels)
    assert _names(ToldAlert(1, True, 0.0, "t", data), "shop", "cart", frozenset({"elsewhere"})) is named


def test_without_readers_there_is_nothing() -> None:
    assert Beside().owner("shop", "cart") is None
    assert Beside().firing("shop", "cart") == []


def test_alerts_come_after_what_the_cluster_says_is_broken() -> None:
    findings = [Finding(level="problem", what="a"), Finding(level="note", what="b")]
    alerts = [FiringAlert(name="Down", severity="critical", since="t")]
    assert [finding.level for finding in with_alerts(findings, alerts)] == ["problem", "warning", "note"]
    assert with_alerts(findings, []) is findings
