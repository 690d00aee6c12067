"""The practice estate `shop`: services, what they run on and store in, who owns them, what changed lately. Data,
relative to a start."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from opsbus_cmdb.model import (
    Asset,
    Change,
    ChangeState,
    ChangeType,
    Criticality,
    Lifecycle,
    Relationship,
    RelationType,
    Risk,
    Status,
    Window,
    WindowKind,
)


@dataclass
class Estate:
    """Everything an empty store is filled with. Relationships and changes name assets of the same estate."""

    assets: list[Asset] = field(default_factory=list)
    relationships: list[Relationship] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)


# name, namespace, kind, team, criticality, release, what it is for
_WORKLOADS: tuple[tuple[str, str, str, str, str, str, str], ...] = (
    ("frontend", "shop", "service", "storefront", "critical", "v3.8.0", "The web shop customers see"),
    ("catalog", "shop", "service", "catalog", "high", "v5.2.1", "Products, prices and stock"),
    ("cart", "shop", "service", "checkout", "high", "v1.14.3", "Shopping carts, kept in redis"),
    ("checkout", "shop", "service", "checkout", "critical", "v2.4.1", "Turns a cart into a paid order"),
    ("recommendations", "shop", "service", "discovery", "low", "v0.9.4", "Products a customer may like"),
    ("redis", "shop", "cache", "platform", "high", "7.2.5", "Carts and sessions"),
    ("catalog-db", "shop", "database", "catalog", "high", "16.3", "PostgreSQL of the catalog"),
    ("frontend", "shop-staging", "service", "storefront", "low", "v3.8.1", "Staging of frontend"),
    ("catalog", "shop-staging", "service", "catalog", "low", "v5.2.1", "Staging of catalog"),
    ("cart", "shop-staging", "service", "checkout", "low", "v1.14.3", "Staging of cart"),
    ("checkout", "shop-staging", "service", "checkout", "low", "v2.4.1", "Staging of checkout"),
    ("redis", "shop-staging", "cache", "platform", "low", "7.2.5", "Staging of redis"),
    ("payments-api", "payments", "service", "payments", "critical", "v4.1.7", "Authorizes and captures payments"),
    ("ledger", "payments", "service", "payments", "critical", "v1.9.0", "The book of every payment"),
    ("ledger-postgres", "payments", "database", "payments", "critical", "16.3", "PostgreSQL of the ledger"),
    ("ingress-nginx-controller", "platform", "service", "platform", "critical", "v1.11.2", "The way in"),
    ("prometheus", "platform", "service", "platform", "high", "v2.54.1", "Metrics and alert rules"),
    ("alertmanager", "platform", "service", "platform", "high", "v0.27.0", "Routes alerts to people"),
    ("grafana", "platform", "service", "platform", "medium", "11.2.0", "Dashboards"),
)

# name, kind, criticality, status, attributes
_INFRASTRUCTURE: tuple[tuple[str, str, str, str, dict[str, Any]], ...] = (
    ("lab", "cluster", "critical", "operational", {"kubernetes": "v1.34.2"}),
    ("lab-control-1", "host", "critical", "operational", {"cpus": 2, "memory_mib": 8192, "zone": "lab-a"}),
    ("lab-worker-1", "host", "high", "operational", {"cpus": 4, "memory_mib": 16384, "zone": "lab-b"}),
    ("lab-worker-2", "host", "high", "operational", {"cpus": 4, "memory_mib": 16384, "zone": "lab-c"}),
    ("lab-worker-3", "host", "high", "operational", {"cpus": 4, "memory_mib": 16384, "zone": "lab-a"}),
)

# from, type, to, impact, redundancy; a bare name is in namespace shop
_NEEDS: tuple[tuple[str, str, str, str, str], ...] = (
    ("platform/ingress-nginx-controller", "depends_on", "shop/frontend", "soft", "active_active"),
    ("shop/frontend", "depends_on", "shop/catalog", "hard", "active_active"),
    ("shop/frontend", "depends_on", "shop/cart", "hard", "active_active"),
    ("shop/frontend", "depends_on", "shop/checkout", "hard", "active_active"),
    ("shop/frontend", "depends_on", "shop/recommendations", "soft", "active_active"),
    ("shop/checkout", "depends_on", "shop/cart", "hard", "active_active"),
    ("shop/checkout", "depends_on", "payments/payments-api", "hard", "active_active"),
    ("shop/recommendations", "depends_on", "shop/catalog", "hard", "active_active"),
    ("shop/cart", "stores_in", "shop/redis", "hard", "standby"),
    ("shop/catalog", "stores_in", "shop/catalog-db", "hard", "none"),
    ("payments/payments-api", "depends_on", "payments/ledger", "hard", "active_active"),
    ("payments/ledger", "stores_in", "payments/ledger-postgres", "hard", "none"),
    ("shop-staging/frontend", "depends_on", "shop-staging/catalog", "hard", "none"),
    ("shop-staging/frontend", "depends_on", "shop-staging/cart", "hard", "none"),
    ("shop-staging/frontend", "depends_on", "shop-staging/checkout", "hard", "none"),
    ("shop-staging/checkout", "depends_on", "shop-staging/cart", "hard", "none"),
    ("shop-staging/cart", "stores_in", "shop-staging/redis", "hard", "none"),
    ("platform/grafana", "depends_on", "platform/prometheus", "soft", "none"),
    ("platform/prometheus", "depends_on", "platform/alertmanager", "soft", "none"),
)


def shop(start: datetime) -> Estate:
    """The shop as it stands at ``start``: checkout v2.4.1 went out twenty minutes ago."""
    estate = Estate()
    refs = {f"{row[1]}/{row[0]}": f"{row[2]}:{row[1]}/{row[0]}" for row in _WORKLOADS}
    estate.assets = [_workload(row, start) for row in _WORKLOADS]
    estate.assets += [_host(row, start) for row in _INFRASTRUCTURE]
    estate.assets += [_legacy_host(start), _planned_service(start)]
    for source, kind, target, impact, redundancy in _NEEDS:
        estate.relationships.append(_edge(refs[source], kind, refs[target], impact, redundancy, start))
    for ref in refs.values():
        estate.relationships.append(_edge(ref, "runs_on", "cluster:lab/lab", "hard", "multi_host", start))
    for name, kind, *_ in _INFRASTRUCTURE:
        if kind == "host":
            estate.relationships.append(
                _edge(f"host:lab/{name}", "part_of", "cluster:lab/lab", "soft", "multi_host", start)
            )
    estate.changes = _changes(start)
    estate.windows = _windows(start)
    return estate


ESTATES: dict[str, Callable[[datetime], Estate]] = {"shop": shop}


def estate(name: str) -> Estate:
    """The named estate as of now.

    Raises:
        KeyError: there is none of that name.
    """
    return ESTATES[name](datetime.now(UTC))


def asset_id(ref: str) -> str:
    """The id of a seeded asset: the same at every start."""
    return f"ast-{hashlib.sha256(ref.encode()).hexdigest()[:12]}"


def _asset(ref: str, start: datetime, **fields: Any) -> Asset:
    kind, _, path = ref.partition(":")
    namespace, _, name = path.partition("/")
    known = {
        "id": asset_id(ref),
        "ref": ref,
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "lifecycle": Lifecycle.ACTIVE,
        "status": Status.OPERATIONAL,
        "environment": "staging" if namespace.endswith("-staging") else "production",
        "version": 1,
        "source": "discovery",
        "confidence": 0.95,
        "last_seen": start - timedelta(minutes=4),
        "created_at": start - timedelta(days=140),
        "updated_at": start - timedelta(hours=6),
    }
    return Asset.model_validate(known | fields)


def _workload(row: tuple[str, str, str, str, str, str, str], start: datetime) -> Asset:
    name, namespace, kind, team, criticality, release, purpose = row
    ref = f"{kind}:{namespace}/{name}"
    released = start - timedelta(minutes=20) if ref == "service:shop/checkout" else start - timedelta(days=6)
    return _asset(
        ref,
        start,
        asset_class="application" if kind == "service" else "data",
        description=purpose,
        criticality=Criticality(criticality),
        owner_team=team,
        updated_at=released,
        attributes={"release": release, "contact": f"{team}@shop.example", "on_call": f"{team}-on-call"},
        labels={"app": name, "team": team},
        external_ids={"kubernetes": f"lab/{namespace}/{name}"},
    )


def _host(row: tuple[str, str, str, str, dict[str, Any]], start: datetime) -> Asset:
    name, kind, criticality, status, attributes = row
    return _asset(
        f"{kind}:lab/{name}",
        start,
        asset_class="infrastructure",
        criticality=Criticality(criticality),
        status=Status(status),
        owner_team="platform",
        attributes=attributes,
        labels={"team": "platform"},
        external_ids={"kubernetes": name},
    )


def _legacy_host(start: datetime) -> Asset:
    return _asset(
        "host:lab/batch-01",
        start,
        asset_class="infrastructure",
        description="Old batch machine; nothing has seen it for nine days",
        lifecycle=Lifecycle.RETIRING,
        status=Status.UNKNOWN,
        criticality=Criticality.LOW,
        owner_team="platform",
        confidence=0.4,
        last_seen=start - timedelta(days=9),
        labels={"team": "platform"},
    )


def _planned_service(start: datetime) -> Asset:
    return _asset(
        "service:shop/gift-cards",
        start,
        asset_class="application",
        description="Gift cards, planned for next quarter",
        lifecycle=Lifecycle.PLANNED,
        status=Status.UNKNOWN,
        criticality=Criticality.MEDIUM,
        owner_team="checkout",
        source="portfolio",
        confidence=1.0,
        last_seen=None,
        labels={"team": "checkout"},
    )


def _edge(source: str, kind: str, target: str, impact: str, redundancy: str, start: datetime) -> Relationship:
    return Relationship(
        id=f"rel-{hashlib.sha256(f'{source} {kind} {target}'.encode()).hexdigest()[:12]}",
        from_id=asset_id(source),
        to_id=asset_id(target),
        type=RelationType(kind),
        impact=impact,
        redundancy=redundancy,
        source="tracing" if kind == "depends_on" else "discovery",
        last_seen=start - timedelta(minutes=4),
    )


def _change(number: str, title: str, state: ChangeState, start: datetime, end: datetime, **fields: Any) -> Change:
    known = {
        "number": number,
        "title": title,
        "type": ChangeType.NORMAL,
        "state": state,
        "risk": Risk.MODERATE,
        "planned_start": start,
        "planned_end": end,
        "created_at": start - timedelta(days=2),
        "updated_at": start,
    }
    return Change.model_validate(known | fields)


def _changes(start: datetime) -> list[Change]:
    def ago(**kwargs: float) -> datetime:
        return start - timedelta(**kwargs)

    def ahead(**kwargs: float) -> datetime:
        return start + timedelta(**kwargs)

    return [
        _change(
            "CHG0004127", "Roll out checkout v2.4.1", ChangeState.REVIEW, ago(minutes=22), ahead(minutes=8),
            type=ChangeType.STANDARD, risk=Risk.LOW, owner_team="checkout", requested_by="mara@shop.example",
            description="Cart snapshots are taken inline (CART_SNAPSHOT=inline); memory limit lowered, as newly sized.",
            asset_refs=["service:shop/checkout"], actual_start=ago(minutes=20), actual_end=ago(minutes=16),
            approvals=[{"by": "checkout lead", "decision": "approved", "at": ago(hours=20).isoformat()}],
            plans={"implementation": "Rolling update, maxUnavailable 1", "test": "Ran a day in shop-staging",
                   "backout": "Roll back to v2.4.0 with its old memory limit"},
        ),
        _change(
            "CHG0004119", "Raise the memory of redis", ChangeState.CLOSED, ago(hours=30), ago(hours=29),
            owner_team="platform", asset_refs=["cache:shop/redis"], actual_start=ago(hours=30),
            actual_end=ago(hours=29.4), outcome="successful",
        ),
        _change(
            "CHG0004131", "Patch the kernel of lab-worker-2", ChangeState.SCHEDULED, ahead(hours=26), ahead(hours=28),
            owner_team="platform", asset_refs=["host:lab/lab-worker-2"],
            plans={"implementation": "Cordon, drain, patch, reboot, uncordon", "backout": "Boot the previous kernel"},
        ),
        _change(
            "CHG0004135", "Minor upgrade of ledger-postgres", ChangeState.AUTHORIZE, ahead(days=2, hours=2),
            ahead(days=2, hours=3), risk=Risk.HIGH, owner_team="payments",
            asset_refs=["database:payments/ledger-postgres"],
            description="Planned inside the upcoming sales freeze: needs a new date or an exception.",
        ),
        _change(
            "CHG0004098", "Emergency: block card-testing traffic", ChangeState.CLOSED, ago(days=3), ago(hours=71),
            type=ChangeType.EMERGENCY, risk=Risk.HIGH, owner_team="payments", outcome="successful",
            asset_refs=["service:payments/payments-api", "service:platform/ingress-nginx-controller"],
            actual_start=ago(days=3), actual_end=ago(days=2, hours=23.5),
        ),
    ]  # fmt: skip


def _windows(start: datetime) -> list[Window]:
    return [
        Window(
            id="win-sales-freeze",
            kind=WindowKind.FREEZE,
            title="Autumn sale: no change in production",
            reason="The four busiest days of the quarter",
            start=start + timedelta(days=1, hours=12),
            end=start + timedelta(days=5, hours=12),
            selector={"environment": "production"},
        )
    ]
