"""A write asks before it writes: the user at the client, or a token that was handed out with the plan. Fail closed."""

import secrets
import time
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import orjson
from nats import errors
from nats.js import JetStreamContext
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue
from pydantic import BaseModel, Field

from opsbus.ask import Elicit
from opsbus.idempotency import arguments_digest
from opsbus.plan import Plan
from opsbus.second_person import TWO_PERSON, SecondPerson
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode, Executed
from opsbus_contracts.streams import CONFIRMATIONS

if TYPE_CHECKING:
    from opsbus.context import Context

VALID_S = 600.0
"""A token holds this long. Seconds; the bucket forgets it then as well."""


_ASKED_IN = "confirm_asked_in"
"""Note of a call's rounds: id of the call in which the user was asked."""


class Proceed(BaseModel):
    """The form a user confirms with."""

    proceed: bool = Field(description="Do it?")


class Confirmations:
    """Plans that wait for their confirmation, in the bucket CONFIRMATIONS."""

    def __init__(self, js: JetStreamContext, service: str) -> None:
        self._js = js
        self._service = service
        self._second = SecondPerson(js, service)
        self._bucket: KeyValue | None = None

    async def confirm(self, context: "Context[Any]", plan: Plan, version: str | None, token: str | None) -> None:
        """See ``Context.confirm``."""
        approval = context.approval
        if approval == "none":
            return
        if approval == TWO_PERSON:
            if not context.approver:
                context.approver = await self._second.approved(context, plan, version)
            return
        token = token or context.arguments.get("confirm")
        bound = self._bound(context, version)
        if token:
            await self._approved(context, "token", await self._spend(token, bound, plan), version)
        elif context.client_can("elicitation"):
            # The question holds the plan and the version: when either changed between the rounds, it is another
            # question.
            about = f"\n(version {version})" if version else ""
            question = Elicit(f"{plan.to_text()}{about}\n\nProceed?", Proceed)
            if context.rounds.answer("confirm", question) is None:
                context.rounds.notes[_ASKED_IN] = context.call_id
            answer = await context.ask("confirm", question)
            if not answer.proceed:
                raise ToolError(ErrorCode.DECLINED, f"the user did not confirm: {plan.summary}")
            await self._approved(context, "asked", context.rounds.notes.get(_ASKED_IN), version)
        else:
            raise await self._required(plan, bound | {"asked_in": context.call_id})

    async def _approved(self, context: "Context[Any]", how: str, asked_in: Any, version: str | None) -> None:
        """Nothing is done before the record has that it was confirmed, by whom and how."""
        details = {"how": how, "asked_in": asked_in if isinstance(asked_in, str) else ""}
        try:
            await context.record_approved(details | ({"version": version} if version else {}))
        except (errors.Error, TimeoutError) as error:
            raise ToolError(
                ErrorCode.AUDIT_UNAVAILABLE,
                f"the record did not take the confirmation ({type(error).__name__}), so nothing was done",
                hint="Try again in a few seconds, from the start: a confirmation token is spent.",
                executed=Executed.NO,
            ) from error

    def _bound(self, context: "Context[Any]", version: str | None) -> dict[str, Any]:
        """What a confirmation holds for, and for nothing else."""
        return {
            "sub": context.identity.sub,
            "tool": context.tool,
            "arguments": arguments_digest(context.arguments),
            "version": version,
        }

    async def _required(self, plan: Plan, bound: dict[str, Any]) -> ToolError:
        token = secrets.token_urlsafe(24)
        expires = time.time() + VALID_S
        try:
            await (await self._open()).create(self._key(token), orjson.dumps(bound | {"expires": expires}))
        except (errors.Error, TimeoutError) as error:
            raise _unavailable(error) from error
        return ToolError(
            ErrorCode.CONFIRMATION_REQUIRED,
            f"not done yet, it needs a confirmation: {plan.summary}",
            hint="Show the plan to whoever decides; then repeat the call, the same but for confirm set to the token.",
            details={"plan": plan.model_dump(mode="json"), "confirm": token, "expires_in_s": int(VALID_S)},
        )

    async def _spend(self, token: Any, bound: dict[str, Any], plan: Plan) -> Any:
        """Gives the id of the call that handed the token out."""
        if not isinstance(token, str) or not 16 <= len(token) <= 64:
            raise _unfit("this is no confirmation token")
        try:
            bucket = await self._open()
            entry = await bucket.get(self._key(token))
            record = orjson.loads(entry.value or b"{}")
            asked_in = record.pop("asked_in", "")
            if record.pop("expires", 0) < time.time():
                raise _unfit("the confirmation has expired")
            wrong = [name for name, value in bound.items() if record.get(name) != value]
            if wrong:
                # Not spent: whoever it was given to may still use it rightly.
                raise _unfit(f"the confirmation was given for another {' and '.join(wrong)}")
            await bucket.delete(self._key(token), last=entry.revision)
            return asked_in
        except KeyNotFoundError:
            raise _unfit("the confirmation is not known, spent or expired") from None
        except KeyWrongLastSequenceError:
            raise _unfit("the confirmation was spent at this moment") from None
        except errors.Error as error:
            if getattr(error, "err_code", None) in (10071, 10164):  # wrong last sequence: two spent it at once
                raise _unfit("the confirmation was spent at this moment") from None
            raise _unavailable(error) from error
        except TimeoutError as error:
            raise _unavailable(error) from error

    def _key(self, token: str) -> str:
        """The token's digest: whoever can read the bucket cannot spend what is in it."""
        return f"{self._service}.{sha256(token.encode()).hexdigest()[:40]}"

    async def _open(self) -> KeyValue:
        if self._bucket is None:
            self._bucket = await self._js.key_value(CONFIRMATIONS.name)
        return self._bucket


def _unfit(message: str) -> ToolError:
    return ToolError(
        ErrorCode.PRECONDITION_FAILED,
        message,
        hint="Repeat the call without confirm to see the plan as it is now and get a new token.",
        executed=Executed.NO,
    )


def _unavailable(error: Exception) -> ToolError:
    return ToolError(
        ErrorCode.UNAVAILABLE,
        f"confirmations cannot be kept or checked now ({type(error).__name__}), so nothing was done",
        executed=Executed.NO,
    )
