"""A large, plausible estate: regions, clusters, hosts, services in tiers with their stores. The same at every run."""

import random
from datetime import UTC, datetime, timedelta

from opsbus_cmdb.health import Fact
from opsbus_cmdb.model import Asset, Criticality, Lifecycle, Relationship, RelationType, Status
from opsbus_cmdb.seed import Estate
from opsbus_cmdb.workloads import Workload

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)
_WORDS = ("cart", "pay", "search", "mail", "stock", "price", "ship", "user", "auth", "report", "media", "order")
_TIERS = 5


def estate(assets: int, relationships: int) -> Estate:
    """About 2 % hosts and clusters, 18 % databases and caches, the rest services; every service needs some of the tier
    below, runs on a cluster, and some store in a database. A few shared services are needed by thousands."""
    rng = random.Random(5)
    clusters = [
        _asset("cluster", "lab", f"cluster-{n:03}", "infrastructure", rng) for n in range(max(2, assets // 1_000))
    ]
    hosts = [_asset("host", "lab", f"host-{n:05}", "infrastructure", rng) for n in range(assets // 50)]
    stores = [
        _asset(rng.choice(("database", "cache")), f"team-{n % 400:03}", f"{rng.choice(_WORDS)}-db-{n:05}", "data", rng)
        for n in range(assets * 18 // 100)
    ]
    count = assets - len(clusters) - len(hosts) - len(stores)
    services = [
        _asset("service", f"team-{n % 400:03}", f"{rng.choice(_WORDS)}-{rng.choice(_WORDS)}-{n:05}", "application", rng)
        for n in range(count)
    ]
    made = Estate(assets=[*clusters, *hosts, *stores, *services])
    pairs: set[tuple[str, str, str]] = set()

    def need(source: Asset, kind: RelationType, target: Asset) -> None:
        if source.id != target.id:
            pairs.add((source.id, kind.value, target.id))

    for host in hosts:
        need(host, RelationType.PART_OF, rng.choice(clusters))
    tier = [services[place::_TIERS] for place in range(_TIERS)]
    for place, service in enumerate(services):
        need(service, RelationType.RUNS_ON, rng.choice(clusters))
        if place % 4 == 0:
            need(service, RelationType.STORES_IN, rng.choice(stores))
    while len(pairs) < relationships:
        place = rng.randrange(_TIERS - 1)
        below = tier[place + 1]
        # One in twenty goes to one of ten shared services: hubs, as every company has them.
        target = below[rng.randrange(10)] if rng.random() < 0.05 else rng.choice(below)
        need(rng.choice(tier[place]), RelationType.DEPENDS_ON, target)
    made.relationships = [
        Relationship(
            id=f"rel-{n:07}", from_id=source, to_id=target, type=RelationType(kind), source="tracing",
            impact="hard" if n % 3 else "soft", redundancy=("none", "standby", "active_active")[n % 3], last_seen=BEGAN,
        )
        for n, (source, kind, target) in enumerate(sorted(pairs))
    ]  # fmt: skip
    return made


def _asset(kind: str, namespace: str, name: str, asset_class: str, rng: random.Random) -> Asset:
    status = rng.choices(list(Status), (1, 3, 1, 1, 94))[0]
    return Asset(
        id=f"ast-{name}", ref=f"{kind}:{namespace}/{name}", kind=kind, asset_class=asset_class, namespace=namespace,
        name=name, description=f"The {name} of {namespace}, kept by its team and looked after by the people on duty",
        environment=rng.choice(("production", "production", "staging", "test")), lifecycle=Lifecycle.ACTIVE,
        status=status, criticality=rng.choices(list(Criticality), (5, 15, 40, 40))[0], owner_team=namespace, version=1,
        attributes={"release": f"v{rng.randrange(9)}.{rng.randrange(30)}.0", "contact": f"{namespace}@shop.example"},
        labels={"app": name, "team": namespace}, external_ids={"kubernetes": f"lab/{namespace}/{name}"},
        source="discovery", confidence=0.95, last_seen=BEGAN, created_at=BEGAN - timedelta(days=rng.randrange(400)),
        updated_at=BEGAN,
    )  # fmt: skip


def workloads(made: Estate, now: datetime) -> list[Workload]:
    """What Kubernetes was last seen to run: every service and store, one in fifty not whole."""
    return [
        Workload(
            cluster="lab", namespace=asset.namespace, name=asset.name, kind="deployment", replicas=3,
            images=[f"registry.example/{asset.name}:{asset.attributes['release']}"],
            ready=place % 50 and 3, seen_at=now - timedelta(seconds=place % 3_600),
        )
        for place, asset in enumerate(asset for asset in made.assets if asset.asset_class != "infrastructure")
    ]  # fmt: skip


def facts(made: Estate, now: datetime) -> list[Fact]:
    """Two thousand alerts that fire, the most needed among those concerned."""
    services = [asset for asset in made.assets if asset.kind == "service"]
    return [
        Fact(
            source="alert", key=f"f{place:05}", state="degraded", namespace=asset.namespace, name=asset.name,
            label="service", reason="alert HighErrorRate (critical): 12 % errors", since=now, told_at=now,
        )
        for place, asset in enumerate(services[:: max(1, len(services) // 2_000)])
    ]  # fmt: skip
