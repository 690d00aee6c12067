"""``make test-cluster ARGS=--clean``: what earlier runs left goes, however young it is."""

import pytest

from .admin import admin_of, current_context
from .lab import sweep

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="session")]


async def test_clean(kubeconfig: str) -> None:
    async with admin_of(kubeconfig, current_context(kubeconfig)) as admin:
        gone = await sweep(admin, older_than_s=0)
    print(f"\ntaken away: {', '.join(gone) or 'nothing was left'}")
