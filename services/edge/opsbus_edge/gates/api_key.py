"""One way to prove an identity: an API key, as a bearer token or in ``X-API-Key``. Who makes keys: ``opsbus keys``.

The keys come over a watch of the bucket APIKEYS, so that a revocation holds at once. An edge that cannot tell whether
its keys are current believes none of them: 503, until it can.
"""

import time
from collections.abc import Mapping

from nats.aio.client import Client
from pydantic import ValidationError

from opsbus import apikeys, logs
from opsbus.bucket_watch import BucketWatch
from opsbus_contracts.access import ApiKey
from opsbus_contracts.errors import ErrorCode
from opsbus_contracts.streams import APIKEYS
from opsbus_edge.gates.key_use import KeyUses
from opsbus_edge.gates.proof import Proven, refuse
from opsbus_edge.model import NO_PEER, Denied, Peer, error_body

log = logs.get("edge")

KEYS_MAX = 100_000
HEADER = "x-api-key"
_HINT = "Send Authorization: Bearer opsbus_<id>_<secret>, or the same in X-API-Key; 'opsbus keys create' makes one."


class ApiKeys:
    """The API keys as this edge knows them.

    Args:
        nc: The edge's connection.
        stale_s: A watch that was not confirmed for this long is not believed: so long, at most, is a revoked key taken
            by an edge that has lost the bus. Seconds.
        uses: Told of every use.
    """

    def __init__(self, nc: Client, stale_s: float, uses: KeyUses) -> None:
        self._stale_s = stale_s
        self._uses = uses
        self._keys: dict[str, tuple[ApiKey, Proven]] = {}
        self.watch = BucketWatch(nc, APIKEYS.name, self._apply, lambda: list(self._keys))

    async def __call__(self, headers: Mapping[str, str], peer: Peer = NO_PEER) -> Proven | Denied | None:
        """Whom the key speaks for; None when none was sent."""
        sent = _sent(headers)
        if sent is None or isinstance(sent, Denied):
            return sent
        presented = apikeys.parse(sent)
        if presented is None:
            return refuse("the API key does not hold", hint=_HINT)
        if self.watch.age_s > self._stale_s:
            return _unknown_now()
        key, proven = self._keys.get(presented.id, (None, None))
        now = time.time()
        if not apikeys.proves(key, presented.secret, now) or key is None or proven is None:
            return refuse("the API key does not hold", hint=_HINT)
        state = apikeys.state(key, now)
        if state is not apikeys.State.ACTIVE:
            return refuse(f"the API key is {state.value}", hint="Ask whoever gave it to you for a new one.")
        self._uses.used(key.id, int(now), peer.address)
        return proven

    def _apply(self, id: str, value: bytes | None) -> None:
        if value is None:
            self._keys.pop(id, None)
            return
        try:
            key = ApiKey.model_validate_json(value)
        except ValidationError as error:
            self._keys.pop(id, None)  # a damaged record lets nobody in
            log.error("an API key's record is damaged", key_id=id[:40], problems=error.error_count())
            return
        if key.id != id or (id not in self._keys and len(self._keys) >= KEYS_MAX):
            self._keys.pop(id, None)
            log.error("an API key's record is not taken", key_id=id[:40], keys=len(self._keys))
            return
        self._keys[id] = key, Proven(key.owner, tuple(sorted(set(key.roles))), "api_key", key=key.id)


def _sent(headers: Mapping[str, str]) -> str | Denied | None:
    """The key in a request; two different credentials are refused, since nobody can say which one counts."""
    alone = headers.get(HEADER)
    value = headers.get("authorization", "")
    scheme, _, token = value.partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" and token.strip().startswith(apikeys.PREFIX) else None
    if alone is None:
        return bearer
    if value and alone != bearer:
        return refuse("the request carries two credentials; send one", "invalid_request", hint=_HINT)
    return alone


def _unknown_now() -> Denied:
    error = error_body(
        ErrorCode.UNAVAILABLE,
        "whether the API key is in force cannot be told at this moment",
        hint="Try again in a few seconds; the platform's operators see it at /ready.",
        retry_after_ms=2_000,
    )
    return Denied(error, http_status=503)
