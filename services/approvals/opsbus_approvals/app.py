"""The approvals worker, wired. What its tools do is in tools.py."""

from collections.abc import AsyncIterator

from opsbus import Worker
from opsbus.nats_client import connect
from opsbus.platform_audit import PlatformAudit
from opsbus_approvals.book import Book
from opsbus_approvals.deciding import Deciding
from opsbus_approvals.settings import ApprovalsSettings
from opsbus_approvals.tools import approve, decline, list_waiting
from opsbus_contracts.permissions import APPROVALS_SERVICE

READ = "approvals:read"
DECIDE = "approvals:decide"


def build() -> Worker:
    """A worker with everything it offers."""
    made = Worker(
        APPROVALS_SERVICE,
        version="0.1.0",
        title="Approvals",
        description="Second persons approve or decline calls that wait for them.",
        settings=ApprovalsSettings,
    )

    @made.lifespan
    async def lifespan(settings: ApprovalsSettings) -> AsyncIterator[Deciding]:
        client = await connect(settings, APPROVALS_SERVICE, name="approvals-book")
        try:
            js = client.jetstream(timeout=3.0)
            yield Deciding(Book(js), PlatformAudit(js, APPROVALS_SERVICE))
        finally:
            await client.close()

    made.tool(name="list", permission=READ, read_only=True, title="Calls that wait")(list_waiting)
    made.tool(name="approve", permission=DECIDE, title="Approve a call", plans=True)(approve)
    made.tool(name="decline", permission=DECIDE, title="Decline a call", plans=True)(decline)
    return made


worker = build()
service = worker.service(order=15, needs=["nats"])
