"""Answers without an end of their own, a session's GET stream: they end in good order when the edge drains."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


async def serve_until(drain: asyncio.Event, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Runs the application; when the edge drains it is told that the client left, and the answer is closed for it."""
    begun = ended = False

    async def receive_or_leave() -> Message:
        if drain.is_set():
            return {"type": "http.disconnect"}
        got, leave = asyncio.ensure_future(receive()), asyncio.ensure_future(drain.wait())
        try:
            await asyncio.wait({got, leave}, return_when=asyncio.FIRST_COMPLETED)
            return await got if got.done() else {"type": "http.disconnect"}
        finally:
            got.cancel()
            leave.cancel()

    async def send_on(message: Message) -> None:
        nonlocal begun, ended
        begun = begun or message["type"] == "http.response.start"
        ended = ended or (message["type"] == "http.response.body" and not message.get("more_body", False))
        await send(message)

    await app(scope, receive_or_leave, send_on)
    if begun and not ended:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
