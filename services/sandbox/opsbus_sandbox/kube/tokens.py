"""Bearer tokens: those that accounts were given at the start, and those that service accounts ask for."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from opsbus_sandbox.clock import timestamp
from opsbus_sandbox.kube.errors import bad_request, invalid, invalid_value, not_found
from opsbus_sandbox.kube.identity import User
from opsbus_sandbox.kube.resources import BY_PLURAL
from opsbus_sandbox.kube.store import ObjectStore

Obj = dict[str, Any]

SECONDS, SECONDS_MIN, SECONDS_MAX = 3600, 600, 2**32
_TEN_MINUTES = "may not specify a duration less than 10 minutes"
_TOO_LONG = "may not specify a duration larger than 2^32 seconds"


@dataclass(frozen=True)
class _Issued:
    """A service account's token: it dies with the account."""

    namespace: str
    name: str
    uid: str
    until: datetime


class Tokens:
    """Whose a token is."""

    def __init__(self, store: ObjectStore, known: Mapping[str, User]) -> None:
        self._store = store
        self._known = dict(known)
        self._issued: dict[str, _Issued] = {}

    def get(self, token: str) -> User | None:
        """Its user; None when nobody has it, or not any more."""
        issued = self._issued.get(token)
        if issued is None:
            return self._known.get(token)
        account = self._store.get("serviceaccounts", issued.namespace, issued.name)
        if account is None or account["metadata"]["uid"] != issued.uid or self._store.clock.now() > issued.until:
            return None
        return User(f"system:serviceaccount:{issued.namespace}:{issued.name}")

    def issue(self, namespace: str, name: str, body: Any, *, dry_run: bool) -> Obj:
        """The answer to a TokenRequest. Raises ApiError 400, 404 or 422."""
        account = self._store.get("serviceaccounts", namespace, name)
        if account is None:
            raise not_found(BY_PLURAL["serviceaccounts"], name)
        if not isinstance(body, dict) or body.get("kind", "TokenRequest") != "TokenRequest":
            raise bad_request("not a TokenRequest")
        spec = body.get("spec") or {}
        seconds = spec.get("expirationSeconds") or SECONDS
        if not isinstance(seconds, int) or isinstance(seconds, bool):
            raise bad_request("json: cannot unmarshal expirationSeconds into Go value of type int64")
        if not SECONDS_MIN <= seconds <= SECONDS_MAX:
            text = _TEN_MINUTES if seconds < SECONDS_MIN else _TOO_LONG
            causes = [invalid_value("spec.expirationSeconds", seconds, text)]
            raise invalid("TokenRequest.authentication.k8s.io", name, causes)
        now = self._store.clock.now()
        until = now + timedelta(seconds=min(seconds, 10**9))
        token = secrets.token_urlsafe(32)
        if not dry_run:
            self._issued[token] = _Issued(namespace, name, account["metadata"]["uid"], until)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": timestamp(now)},
            "spec": {"audiences": spec.get("audiences") or ["https://kubernetes.default.svc"], **spec}
            | {"expirationSeconds": seconds},
            "status": {"token": token, "expirationTimestamp": timestamp(until)},
        }
