"""What the edge counts, in a registry of its own. The ``mcp_*`` names are those that users of MCP gateways know."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

_OUTCOMES_MAX = 200
"""Outcomes of dispatches that are told apart: a worker may say what it likes."""

_METHODS = frozenset(
    {
        "tools/call",
        "tools/list",
        "resources/read",
        "resources/list",
        "resources/templates/list",
        "resources/subscribe",
        "resources/unsubscribe",
        "prompts/get",
        "prompts/list",
        "completion/complete",
        "initialize",
        "server/discover",
        "subscriptions/listen",
        "logging/setLevel",
        "ping",
    }
)


class Metrics:
    """Counters and histograms. Labels are bounded: methods and codes of closed lists, names of announced tools."""

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter("mcp_requests", "Requests ended.", "method", "status")
        self._request_s = self._histogram("mcp_request_duration_seconds", "From request to answer.", "method")
        self._tool_calls = self._counter("mcp_tool_calls", "Tool calls ended, by outcome.", "tool", "status")
        self._tool_s = self._histogram("mcp_tool_call_duration_seconds", "From call to final reply.", "tool")
        self._errors = self._counter("mcp_errors", "Errors told to callers.", "code")
        self._resources = self._counter("mcp_resource_access", "Resources read.", "service", "status")
        self.active_connections = self._gauge("mcp_active_connections", "HTTP requests being answered, stdio included.")
        self.rate_limit_hits = self._counter("mcp_rate_limit_hits", "Calls refused by a limit.", "limit")
        self._attempts = self._counter("opsbus_edge_attempts", "Dispatches, by how they ended.", "outcome")
        self.shed = self._counter("opsbus_edge_shed", "Requests refused unread, the edge having too much to do.", "why")
        self.requests_waiting = self._gauge("opsbus_edge_requests_waiting", "Requests not begun, under overload.")
        self.turned_away = self._counter("opsbus_edge_turned_away", "Requests refused before sign-in.", "why")
        self.replies_ignored = self._counter("opsbus_edge_replies_ignored", "Replies not taken.", "why")
        self.in_flight = self._gauge("opsbus_edge_calls_in_flight", "Calls at workers now.")
        self.audit_pending = self._gauge("opsbus_edge_audit_pending", "Audit events not yet acknowledged.")
        self.audit_spool_bytes = self._gauge("opsbus_edge_audit_spool_bytes", "Size of the audit spool on disk.")
        self.audit_events = self._counter("opsbus_edge_audit_events", "Audit events, by outcome.", "outcome")
        self.nats_errors = self._counter("opsbus_edge_nats_errors", "Errors the NATS client reported.", "kind")
        self.policy_broken = self._gauge("opsbus_edge_policy_broken", "1: the policy file is, so the one before holds.")
        self.nats_connected = self._gauge("opsbus_edge_nats_connected", "1: connected.")
        self.catalog_tools = self._gauge("opsbus_edge_catalog_tools", "Tools known.")
        self.catalog_refusals = self._gauge("opsbus_edge_catalog_refusals", "Announcements refused now.")
        self.authentication = self._counter("opsbus_edge_authentications", "Requests by proof and outcome.", "outcome")
        self._gauge("opsbus_edge_info", "Version.", "version").labels(version).set(1)
        self._request_children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._tool_children: dict[tuple[str, str], tuple[Counter, Histogram]] = {}
        self._attempt_children: dict[str, Counter] = {}

    def request(self, method: str, status: str, seconds: float) -> None:
        """A request of any method ended with ``ok``, ``input_required``, an error code or ``denied``."""
        method = method if method in _METHODS else "other"
        found = self._request_children.get((method, status))
        if found is None:
            found = (self._requests.labels(method, status), self._request_s.labels(method))
            self._request_children[method, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def tool_call(self, tool: str, status: str, seconds: float) -> None:
        """A tool call ended. ``tool`` is an announced name, or ``unknown``."""
        found = self._tool_children.get((tool, status))
        if found is None:
            if len(self._tool_children) > 50_000:
                tool = "other"
            found = (self._tool_calls.labels(tool, status), self._tool_s.labels(tool))
            self._tool_children[tool, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def attempt(self, outcome: str) -> None:
        """A dispatch ended: an outcome of the dispatcher's, or an error code."""
        found = self._attempt_children.get(outcome)
        if found is None:
            if len(self._attempt_children) > _OUTCOMES_MAX:
                outcome = "other"
            found = self._attempt_children[outcome] = self._attempts.labels(outcome)
        found.inc()

    def error(self, code: str) -> None:
        """An error was told to a caller."""
        self._errors.labels(code).inc()

    def resource(self, service: str, status: str) -> None:
        """A resource was read. ``service`` is an announced one, or ``unknown``."""
        self._resources.labels(service, status).inc()

    def text(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(name, about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(name, about, labels, buckets=_BUCKETS, registry=self.registry)
