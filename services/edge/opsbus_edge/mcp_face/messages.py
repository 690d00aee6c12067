"""Progress and log messages of a running call, on their way to the client that asked for them."""

import orjson
from mcp_types import LoggingMessageNotification, LoggingMessageNotificationParams
from pydantic import ValidationError

from opsbus import logs
from opsbus.context import LEVELS
from opsbus_contracts.calls import Status
from opsbus_edge.mcp_face.exchange import Ctx, Exchange
from opsbus_edge.model import OnMessage

log = logs.get("edge")


def sender(exchange: Exchange, ctx: Ctx) -> OnMessage:
    """Passes a worker's messages on; a log message below the level the client asked for is dropped."""
    asked = LEVELS.index(exchange.log_level) if exchange.log_level in LEVELS else len(LEVELS)

    async def send(status: Status, body: bytes) -> None:
        message = orjson.loads(body)
        if status is Status.PROGRESS:
            await ctx.session.report_progress(
                message["progress"], _number(message.get("total")), _text(message.get("message"))
            )
        elif status is Status.LOG and message["level"] in LEVELS and LEVELS.index(message["level"]) >= asked:
            await _send_log(ctx, message["level"], message["data"], _text(message.get("logger")))

    return send


async def _send_log(ctx: Ctx, level: str, data: object, logger: str | None) -> None:
    try:
        params = LoggingMessageNotificationParams.model_validate({"level": level, "data": data, "logger": logger})
    except ValidationError:
        log.warning("log message dropped: no MCP log message", level=level)
        return
    await ctx.session.send_notification(LoggingMessageNotification(params=params), ctx.request_id)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
