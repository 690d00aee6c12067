"""The applications of the estate: one row each. What they look like as objects is built in `workloads`."""

from __future__ import annotations

from dataclasses import dataclass, replace

REGISTRY = "registry.shop.example"


@dataclass(frozen=True)
class App:
    """One workload. CPU in millicores, memory in MiB, ages in hours before the start of the story."""

    name: str
    namespace: str
    team: str
    image: str
    replicas: int = 1
    kind: str = "Deployment"
    tier: str = "backend"
    cpu: int = 100
    cpu_limit: int = 500
    memory: int = 128
    memory_limit: int = 256
    port: int = 8080
    health: str = "/healthz"
    age_hours: float = 24 * 40
    release_hours: float = 24 * 6
    previous_image: str = ""
    revision: int = 1
    needs: tuple[str, ...] = ()
    secret: str = ""
    config: bool = True
    budget_min: int | None = None
    command: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()

    @property
    def environment(self) -> str:
        """What the label `environment` says."""
        return "staging" if self.namespace.endswith("-staging") else "production"

    @property
    def version(self) -> str:
        """The image's tag."""
        return self.image.rsplit(":", 1)[-1]


def _own(name: str, tag: str) -> str:
    return f"{REGISTRY}/{name}:{tag}"


FRONTEND = App(
    "frontend", "shop", "storefront", _own("frontend", "v3.8.0"), replicas=3, tier="web", cpu=250, cpu_limit=1000,
    memory=256, memory_limit=512, previous_image=_own("frontend", "v3.7.2"), revision=31, release_hours=24 * 3,
    needs=("catalog", "cart", "checkout", "recommendations"), budget_min=2,
)  # fmt: skip
CATALOG = App(
    "catalog", "shop", "catalog", _own("catalog", "v5.2.1"), replicas=3, cpu=250, cpu_limit=1000, memory=384,
    memory_limit=768, previous_image=_own("catalog", "v5.2.0"), revision=18, release_hours=24 * 9,
    secret="catalog-db", budget_min=2,  # noqa: S106 - the name of a Secret object
)  # fmt: skip
CART = App(
    "cart", "shop", "checkout", _own("cart", "v1.14.3"), replicas=3, cpu=200, cpu_limit=800, memory=256,
    memory_limit=512, previous_image=_own("cart", "v1.14.2"), revision=22, release_hours=24 * 12, needs=("redis",),
    secret="redis-auth", budget_min=2,  # noqa: S106 - the name of a Secret object
)  # fmt: skip
CHECKOUT = App(
    "checkout", "shop", "checkout", _own("checkout", "v2.4.0"), replicas=6, cpu=200, cpu_limit=1000, memory=256,
    memory_limit=512, previous_image=_own("checkout", "v2.3.9"), revision=13, release_hours=24 * 5,
    needs=("cart", "payments-api.payments"), secret="checkout-payments", budget_min=4,  # noqa: S106
    env=(("CART_SNAPSHOT", "off"),),
)  # fmt: skip
RECOMMENDATIONS = App(
    "recommendations", "shop", "discovery", _own("recommendations", "v0.9.4"), replicas=3, cpu=1200, cpu_limit=2000,
    memory=1024, memory_limit=2048, previous_image=_own("recommendations", "v0.9.3"), revision=7,
    release_hours=24 * 2, needs=("catalog",),
)  # fmt: skip
REDIS = App(
    "redis", "shop", "platform", "redis:7.2.5", replicas=3, kind="StatefulSet", tier="cache", cpu=200, cpu_limit=400,
    memory=512, memory_limit=768, port=6379, health="", secret="redis-auth", config=False,  # noqa: S106
    age_hours=24 * 90, budget_min=2, previous_image="redis:7.2.4",
)  # fmt: skip


def _staging(app: App, **changes: object) -> App:
    small = replace(
        app, namespace="shop-staging", replicas=1, cpu=100, cpu_limit=500, memory=128, memory_limit=512,
        budget_min=None, age_hours=24 * 20, release_hours=26.0, revision=4,
    )  # fmt: skip
    return replace(small, **changes)  # type: ignore[arg-type]


APPS: tuple[App, ...] = (
    FRONTEND,
    CATALOG,
    CART,
    CHECKOUT,
    RECOMMENDATIONS,
    REDIS,
    _staging(FRONTEND, image=_own("frontend", "v3.8.1"), previous_image=_own("frontend", "v3.8.0")),
    _staging(CATALOG),
    _staging(CART),
    # Staging never got the lowered memory limit, which is why nobody saw the trouble there.
    _staging(
        CHECKOUT, image=_own("checkout", "v2.4.1"), previous_image=_own("checkout", "v2.4.0"),
        env=(("CART_SNAPSHOT", "inline"),),
    ),
    _staging(REDIS),
    App(
        "payments-api", "payments", "payments", _own("payments-api", "v4.1.7"), replicas=3, cpu=250, cpu_limit=1000,
        memory=256, memory_limit=512, previous_image=_own("payments-api", "v4.1.6"), revision=27,
        release_hours=24 * 15, needs=("ledger",), secret="payments-provider", budget_min=2,  # noqa: S106
    ),
    App(
        "ledger", "payments", "payments", _own("ledger", "v1.9.0"), replicas=2, cpu=250, cpu_limit=1000, memory=384,
        memory_limit=768, previous_image=_own("ledger", "v1.8.4"), revision=9, release_hours=24 * 33,
        needs=("ledger-postgres",), secret="ledger-db", budget_min=1,  # noqa: S106
    ),
    App(
        "ledger-postgres", "payments", "payments", "postgres:16.3", kind="StatefulSet", tier="database", cpu=400,
        cpu_limit=1000, memory=1024, memory_limit=2048, port=5432, health="", secret="ledger-db",  # noqa: S106
        config=False, age_hours=24 * 120,
    ),
    App(
        "ingress-nginx-controller", "platform", "platform", "registry.k8s.io/ingress-nginx/controller:v1.11.2",
        replicas=2, tier="edge", cpu=200, cpu_limit=1000, memory=192, memory_limit=384, port=80, age_hours=24 * 90,
        release_hours=24 * 44, budget_min=1,
    ),
    App(
        "prometheus", "platform", "platform", "quay.io/prometheus/prometheus:v2.54.1", tier="monitoring", cpu=400,
        cpu_limit=1500, memory=1536, memory_limit=3072, port=9090, health="/-/healthy", age_hours=24 * 90,
    ),
    App(
        "alertmanager", "platform", "platform", "quay.io/prometheus/alertmanager:v0.27.0", tier="monitoring",
        cpu=50, memory=64, memory_limit=128, port=9093, health="/-/healthy", age_hours=24 * 90,
    ),
    App(
        "grafana", "platform", "platform", "grafana/grafana:11.2.0", tier="monitoring", cpu=100, memory=192,
        memory_limit=512, port=3000, health="/api/health", secret="grafana-admin", age_hours=24 * 90,  # noqa: S106
    ),
    App(
        "node-exporter", "platform", "platform", "quay.io/prometheus/node-exporter:v1.8.2", kind="DaemonSet",
        tier="monitoring", cpu=50, cpu_limit=250, memory=32, memory_limit=64, port=9100, health="/", config=False,
        age_hours=24 * 90,
    ),
    App(
        "coredns", "kube-system", "platform", "registry.k8s.io/coredns/coredns:v1.11.3", replicas=2, tier="dns",
        cpu=100, memory=70, memory_limit=170, port=53, health="", age_hours=24 * 140, budget_min=1,
    ),
)  # fmt: skip
