"""Alerting rules of the estate, evaluated for real: pending, then firing after ``for``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from opsbus_sandbox.promql.aggregate import format_value
from opsbus_sandbox.promql.database import Database, Labels
from opsbus_sandbox.promql.errors import PromqlError
from opsbus_sandbox.promql.evaluate import as_vector, query

RUNBOOKS = "https://runbooks.shop.example"


@dataclass(frozen=True)
class Rule:
    """An alerting rule; ``{{ $labels.x }}`` and ``{{ $value }}`` in labels and annotations."""

    name: str
    expr: str
    for_s: float
    labels: Labels
    annotations: Labels


def _rule(name: str, expr: str, for_s: float, severity: str, summary: str, **labels: str) -> Rule:
    return Rule(
        name,
        expr,
        for_s,
        {"severity": severity, **labels},
        {"summary": summary, "runbook_url": f"{RUNBOOKS}/{name}"},
    )


_ERRORS = (
    'sum by (namespace, service) (rate(http_requests_total{{code=~"5..",service="{0}"}}[5m]))'
    ' / sum by (namespace, service) (rate(http_requests_total{{service="{0}"}}[5m]))'
)

RULES: tuple[Rule, ...] = (
    _rule("Watchdog", "vector(1)", 0, "none", "The path from rules to receivers works."),
    _rule(
        "CheckoutHighErrorRate",
        f"{_ERRORS.format('checkout')} > 0.05",
        120,
        "critical",
        "{{ $labels.service }} in {{ $labels.namespace }} answers {{ $value }} of its requests with 5xx.",
        team="checkout",
    ),
    _rule(
        "CheckoutHighLatency",
        "histogram_quantile(0.99, sum by (namespace, service, le) "
        '(rate(http_request_duration_seconds_bucket{service="checkout",namespace="shop"}[5m]))) > 1',
        120,
        "warning",
        "p99 of {{ $labels.service }} is {{ $value }} s.",
        team="checkout",
    ),
    _rule(
        "KubePodCrashLooping",
        "max by (namespace, pod, container)"
        ' (kube_pod_container_status_waiting_reason{reason="CrashLoopBackOff"}) == 1'
        " or max by (namespace, pod, container) (increase(kube_pod_container_status_restarts_total[10m])) > 2",
        60,
        "warning",
        "Pod {{ $labels.namespace }}/{{ $labels.pod }} ({{ $labels.container }}) restarts again and again.",
    ),
    _rule(
        "KubePodNotReady",
        'sum by (namespace, pod) (kube_pod_status_phase{phase=~"Pending|Unknown"}) > 0',
        300,
        "warning",
        "Pod {{ $labels.namespace }}/{{ $labels.pod }} has not been ready for five minutes.",
    ),
    _rule(
        "KubeDeploymentReplicasMismatch",
        "kube_deployment_spec_replicas - kube_deployment_status_replicas_available > 0",
        300,
        "warning",
        "Deployment {{ $labels.namespace }}/{{ $labels.deployment }} lacks {{ $value }} wanted replicas.",
    ),
    _rule(
        "ContainerMemoryNearLimit",
        "max by (namespace, pod, container) (container_memory_working_set_bytes)"
        ' / max by (namespace, pod, container) (kube_pod_container_resource_limits{resource="memory"} > 0) > 0.9',
        30,
        "warning",
        "{{ $labels.container }} in {{ $labels.namespace }}/{{ $labels.pod }} uses {{ $value }} of its memory limit.",
    ),
    _rule(
        "TargetDown",
        'up{job="opsbus"} == 0',
        60,
        "warning",
        "{{ $labels.instance }} does not answer its scrape.",
    ),
)


@dataclass
class Alert:
    """A rule that holds for some labels."""

    rule: Rule
    labels: Labels
    annotations: Labels
    value: float
    active_since: float
    state: str = "pending"


@dataclass
class Alerting:
    """The state of all rules."""

    database: Database
    rules: tuple[Rule, ...] = RULES
    active: dict[tuple[tuple[str, str], ...], Alert] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    evaluated_at: float = 0.0

    def evaluate(self, now: float) -> None:
        """Bring every alert up to date."""
        held: dict[tuple[tuple[str, str], ...], Alert] = {}
        for rule in self.rules:
            self.errors.pop(rule.name, None)
            try:
                vector = as_vector(query(self.database, rule.expr, now))
            except PromqlError as error:
                self.errors[rule.name] = str(error)
                continue
            for labels, value in vector:
                alert = self._alert(rule, labels, value, now)
                held[tuple(sorted(alert.labels.items()))] = alert
        self.active = held
        self.evaluated_at = now

    def _alert(self, rule: Rule, found: Labels, value: float, now: float) -> Alert:
        plain = {key: text for key, text in found.items() if key != "__name__"}
        labels = {**plain, "alertname": rule.name}
        labels |= {key: _expand(text, plain, value) for key, text in rule.labels.items()}
        known = self.active.get(tuple(sorted(labels.items())))
        since = known.active_since if known else now
        annotations = {key: _expand(text, plain, value) for key, text in rule.annotations.items()}
        state = "firing" if now - since >= rule.for_s else "pending"
        return Alert(rule, labels, annotations, value, since, state)

    def of(self, rule: Rule) -> list[Alert]:
        """The rule's pending and firing alerts."""
        return [alert for alert in self.active.values() if alert.rule is rule]

    def firing(self) -> list[Alert]:
        """What goes to Alertmanager."""
        return [alert for alert in self.active.values() if alert.state == "firing"]

    def rehearse(self, now: float) -> None:
        """Evaluate the last fifteen minutes, so that what has held for long is firing from the start."""
        for back in range(15, -1, -1):
            self.evaluate(now - back * 60.0)


def _expand(text: str, labels: Labels, value: float) -> str:
    filled = re.sub(r"\{\{\s*\$labels\.(\w+)\s*\}\}", lambda m: labels.get(m[1], ""), text)
    return re.sub(r"\{\{\s*\$value\s*\}\}", format_value(round(value, 4)), filled)
