"""The identity a call carries on the bus: minted per caller for half its lifetime. The client's token stays here."""

import time
from collections import OrderedDict

from opsbus.identity import Signer
from opsbus.permission import deciding, fits
from opsbus_contracts.identity import LIFETIME_S, Grant
from opsbus_edge.model import Caller

CACHE_MAX = 10_000


class Minter:
    """Identity tokens by caller."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer
        self._minted: OrderedDict[tuple[str, ...], tuple[float, str]] = OrderedDict()

    @property
    def signer(self) -> Signer:
        """What signs now."""
        return self._signer

    @property
    def kid(self) -> str:
        """Id of the key that signs."""
        return self._signer.kid

    def renew(self, signer: Signer) -> None:
        """Sign with another key from now on; what the key before has signed is not used again."""
        self._signer = signer
        self._minted.clear()

    def token(self, caller: Caller, service: str, client: str = "", record_as: str = "", permission: str = "") -> str:
        """The token for calls of a service; no other service takes it.

        Args:
            permission: What the call needs. Where a caller's scopes narrow it, the identity is for that alone.
        """
        client = client[:128]
        permissions, grants = (
            (caller.permissions, caller.grants) if caller.scopes is None else _only(caller, permission)
        )
        narrowed = permission if caller.scopes is not None else ""
        key = (caller.sub, caller.role_key, caller.auth, client, service, record_as, narrowed)
        now = time.time()
        found = self._minted.get(key)
        if found is not None and now < found[0]:
            self._minted.move_to_end(key)
            return found[1]
        token = self._signer.mint(
            caller.sub,
            permissions=list(permissions),
            grants=grants,
            service=service,
            roles=list(caller.roles),
            auth=caller.auth,
            client=client,
            record_as=record_as,
            now=now,
        )
        self._minted[key] = (now + LIFETIME_S / 2, token)
        self._minted.move_to_end(key)
        if len(self._minted) > CACHE_MAX:
            self._minted.popitem(last=False)
        return token


def _only(caller: Caller, permission: str) -> tuple[tuple[str, ...], tuple[Grant, ...]]:
    """What the caller has of one permission, and every denial."""
    denials = tuple(glob for glob in caller.permissions if glob.startswith("!"))
    allowed = (permission,) if deciding(caller.permissions, permission)[0] else ()
    grants = tuple(
        grant if grant.effect == "deny" else grant.model_copy(update={"permission": permission})
        for grant in caller.grants
        if grant.effect == "deny" or fits((grant.permission,), permission)
    )
    return denials + allowed, grants
