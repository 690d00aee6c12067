"""The first gate: who is it? Asks each way of proving in turn; nobody gets in without one, unless settings say so."""

from collections.abc import Mapping, Sequence

from opsbus_edge.gates.policy import Policy
from opsbus_edge.gates.proof import Proof, Proven, no_proof
from opsbus_edge.metrics import Metrics
from opsbus_edge.model import NO_PEER, Caller, Denied, Peer


class Authenticator:
    """The ways of proving, in order, and the policy that says what the proved one may do.

    Args:
        proofs: Tried in order; the first that the client used decides, for better or worse.
        policy: Roles to permissions.
        anonymous: Roles of requests that prove nothing; None: they are refused.
        metrics: Counts outcomes.
        scopes: Permission globs by a token's scope; a scope that is not there is one itself.
    """

    def __init__(
        self,
        proofs: Sequence[Proof],
        policy: Policy,
        anonymous: tuple[str, ...] | None,
        metrics: Metrics,
        scopes: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self._proofs = proofs
        self._policy = policy
        self._anonymous = anonymous
        self._metrics = metrics
        self._by_scope = dict(scopes or {})
        self._callers: dict[Proven, Caller] = {}
        self._policy_seen = policy.digest

    async def authenticate(self, headers: Mapping[str, str], peer: Peer = NO_PEER) -> Caller | Denied:
        """The caller behind a request's headers (lower-case names)."""
        for proof in self._proofs:
            found = await proof(headers, peer)
            if isinstance(found, Proven):
                return self.caller(found)
            if found is not None:
                self._metrics.authentication.labels("refused").inc()
                return found
        if self._anonymous is not None:
            return self.caller(Proven("anonymous", self._anonymous, "anonymous"))
        self._metrics.authentication.labels("missing").inc()
        return no_proof()

    def caller(self, proven: Proven) -> Caller:
        """The caller with what the policy grants; the same object for the same proof and policy."""
        if self._policy.digest != self._policy_seen:
            self._callers.clear()
            self._policy_seen = self._policy.digest
        found = self._callers.get(proven)
        if found is None:
            if len(self._callers) > 10_000:
                self._callers.clear()
            grant = self._policy.grant(proven.roles)
            found = Caller(
                proven.sub,
                proven.roles,
                grant.permissions,
                proven.auth,
                grant.role_key,
                grants=grant.grants,
                key=proven.key,
                scopes=self._scopes(proven),
                requires=self._requires,
            )
            self._callers[proven] = found
            self._metrics.authentication.labels(proven.auth).inc()
        return found

    def _scopes(self, proven: Proven) -> tuple[str, ...] | None:
        if proven.scopes is None:
            return None
        return tuple(sorted({glob for scope in proven.scopes for glob in self._by_scope.get(scope, (scope,))}))

    def _requires(self, tool: str) -> tuple[str, ...]:
        return self._policy.needs(tool).requires
