"""The whole path, once: a worker on the bus, a call, a result."""

from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, ToolError, Worker


class Invoice(BaseModel):
    number: str
    total: float
    currency: str


worker = Worker("billing", version="1.2.3", title="Billing")


@worker.tool(permission="billing:read", read_only=True)
async def get_invoice(
    ctx: Context[None], number: Annotated[str, Field(description="Its number.")], currency: str = "EUR"
) -> Invoice:
    """One invoice with its lines."""
    if number == "0":
        raise ToolError(ErrorCode.NOT_FOUND, f"no invoice {number}", hint="billing_list_invoices lists them")
    return Invoice(number=number, total=12.5, currency=currency)


async def test_call(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("billing", "get_invoice", {"number": "7"})
        assert reply.result == {
            "resultType": "complete",
            "content": [{"type": "text", "text": '{"number":"7","total":12.5,"currency":"EUR"}'}],
            "structuredContent": {"number": "7", "total": 12.5, "currency": "EUR"},
            "isError": False,
        }
        assert reply.executed == "yes"


async def test_tool_error(run_worker, caller):
    async with run_worker(worker):
        reply = await caller.call("billing", "get_invoice", {"number": "0"})
        assert reply.error.code is ErrorCode.NOT_FOUND
        assert reply.error.hint == "billing_list_invoices lists them"
        assert reply.executed == "no"


@pytest.mark.parametrize("arguments", [{"numbr": "7"}, {"number": 7}, {}])
async def test_invalid_arguments(run_worker, caller, arguments):
    async with run_worker(worker):
        error = (await caller.call("billing", "get_invoice", arguments)).error
        assert error.code is ErrorCode.INVALID_ARGUMENTS
        assert error.details["valid_arguments"] == ["number", "currency"]
