"""The one way through: every request of every face passes these gates in this order."""

from opsbus_edge.model import OnMessage, Reply, Request


class Pipeline:
    """find target, authorize, limit, audit: requested, dispatch, audit: completed."""

    async def run(self, request: Request, on_message: OnMessage | None = None) -> Reply:
        """Carry a request through the gates to a worker and back.

        Never raises but CancelledError: the caller went away; the worker is told and ``cancelled`` is recorded.
        """
        raise NotImplementedError
