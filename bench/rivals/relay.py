"""The practical limit: an ASGI application that sends a body onto the bus and answers with what comes back. No checks,
no record, no protocol."""

import asyncio
from typing import Any

from nats.aio.msg import Msg

from bench.rivals.serve import ECHO, bus, serve

_HEADERS = {"Opsbus-Call": "0" * 32}


class Relay:
    """One inbox for all, as the edge has it: a subscription for each request would measure nats-py's own request."""

    def __init__(self) -> None:
        self._client: Any = None
        self._inbox = ""
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._number = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self._number += 1
        token = str(self._number)
        answer = self._waiting[token] = asyncio.get_running_loop().create_future()
        await self._client.publish(ECHO, body, reply=f"{self._inbox}.{token}", headers=_HEADERS)
        data = await answer
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._client = await bus()
        self._inbox = self._client.new_inbox()
        await self._client.subscribe(f"{self._inbox}.*", cb=self._arrived)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._client.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _arrived(self, message: Msg) -> None:
        waiting = self._waiting.pop(message.subject.rpartition(".")[2], None)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.data)


if __name__ == "__main__":
    serve(Relay())
