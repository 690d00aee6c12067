"""Questions to the user behind a call, by MCP's multi round-trip requests: what is asked, and the state between rounds.

A worker keeps nothing between rounds. Each round runs the tool's function from its start with the answers so far. They
travel in the request state, which the edge seals (integrity, caller, request, expiry) before a client sees it.
"""

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Generic, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from opsbus.content import Audio, Image, Text
from opsbus.schema import Schema
from opsbus.toolerror import ToolError
from opsbus_contracts import ErrorCode

Answer = TypeVar("Answer", bound=BaseModel)

STATE_BYTES_MAX = 64_000
"""Most bytes of request state: answers so far."""


class Question:
    """Something a client can be asked. ``capability`` is what it must have declared."""

    capability: str
    method: str

    def params(self) -> dict[str, Any]:
        """The request's params, as MCP has them."""
        raise NotImplementedError

    def read(self, answer: Any) -> Any:
        """The answer as the tool takes it."""
        raise NotImplementedError

    def digest(self) -> str:
        """Binds an answer to its question."""
        body = json.dumps([self.method, self.params()], sort_keys=True, default=str)
        return sha256(body.encode()).hexdigest()[:24]


class Elicit(Question, Generic[Answer]):
    """A form for the user. ``model`` is flat: strings, numbers, booleans, enums; or give the JSON ``schema`` itself."""

    capability = "elicitation"
    method = "elicitation/create"

    def __init__(
        self, message: str, model: type[Answer] | None = None, *, schema: dict[str, Any] | None = None
    ) -> None:
        if (model is None) == (schema is None):
            raise TypeError("Elicit takes a model or a schema")
        self.message = message
        self.model = model
        self.schema = schema if schema is not None else flat_schema(model)  # type: ignore[arg-type]

    def params(self) -> dict[str, Any]:
        return {"mode": "form", "message": self.message, "requestedSchema": self.schema}

    def read(self, answer: Any) -> Any:
        """A model (or a dict, for a raw schema).

        Raises:
            ToolError: ``declined``, or ``invalid_arguments`` for an answer that is none.
        """
        action = answer.get("action") if isinstance(answer, dict) else None
        if action in ("decline", "cancel"):
            raise ToolError(ErrorCode.DECLINED, f"the user said {action}: {self.message.splitlines()[0]}")
        content = answer.get("content") if isinstance(answer, dict) else None
        if action != "accept" or not isinstance(content, dict):
            raise ToolError(
                ErrorCode.INVALID_ARGUMENTS,
                "the answer to a question must be {action: accept|decline|cancel, content: {...}}",
                hint="Send the elicitation result as the client got it.",
            )
        if self.model is None:
            return content
        try:
            return self.model.model_validate(content)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ToolError(ErrorCode.INVALID_ARGUMENTS, f"the user's answer does not fit: {problems}") from None


class SampleMessage(BaseModel):
    """A message of a sampling request, and of its answer."""

    role: Literal["user", "assistant"] = "user"
    content: Text | Image | Audio | list[Text | Image | Audio]


class Sampled(SampleMessage):
    """What the client's model said."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    model: str = ""
    stop_reason: str | None = Field(default=None, alias="stopReason")

    @property
    def text(self) -> str:
        """The text of the answer."""
        blocks = self.content if isinstance(self.content, list) else [self.content]
        return "\n".join(block.text for block in blocks if isinstance(block, Text))


class Sample(Question):
    """A completion by the client's model."""

    capability = "sampling"
    method = "sampling/createMessage"

    def __init__(
        self, messages: str | list[SampleMessage], *, max_tokens: int = 1000, system: str | None = None, **more: Any
    ) -> None:
        """``more``: further params of sampling/createMessage, in MCP's names."""
        if isinstance(messages, str):
            messages = [SampleMessage(content=Text(messages))]
        self.messages = messages
        self.more = {"maxTokens": max_tokens, **more} | ({"systemPrompt": system} if system else {})

    def params(self) -> dict[str, Any]:
        messages = [message.model_dump(mode="json", by_alias=True, exclude_none=True) for message in self.messages]
        return {"messages": messages, **self.more}

    def read(self, answer: Any) -> Sampled:
        try:
            return Sampled.model_validate(answer)
        except ValidationError:
            raise ToolError(ErrorCode.INVALID_ARGUMENTS, "the answer is no sampling result") from None


class Root(BaseModel):
    """A folder the client opened to its servers."""

    uri: str
    name: str | None = None


class Roots(Question):
    """The client's roots."""

    capability = "roots"
    method = "roots/list"

    def params(self) -> dict[str, Any]:
        return {}

    def read(self, answer: Any) -> list[Root]:
        try:
            return [Root.model_validate(root) for root in answer["roots"]]
        except (ValidationError, TypeError, KeyError):
            raise ToolError(ErrorCode.INVALID_ARGUMENTS, "the answer is no list of roots") from None


class InputRequired(BaseException):
    """Ends a round: the call needs these answers.

    Not an Exception, so that a tool's own ``except Exception`` lets it pass.
    """

    def __init__(self, questions: dict[str, Question], state: "Rounds") -> None:
        super().__init__("input required")
        self.body = orjson.dumps(
            {
                "resultType": "input_required",
                "inputRequests": {key: {"method": q.method, "params": q.params()} for key, q in questions.items()},
                "requestState": state.dump({key: q.digest() for key, q in questions.items()}),
            }
        )


@dataclass
class Rounds:
    """The rounds of a call so far: answers by key, what was asked, and what the kit noted for itself."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, request_state: str | None, responses: dict[str, Any] | None) -> "Rounds":
        """The state of this round. An answer to what this call never asked is dropped: it would skip the question.

        Raises:
            ToolError: ``invalid_request`` for a state that is none, ``request_too_large`` for too much of it.
        """
        if len(request_state or "") > STATE_BYTES_MAX:
            raise ToolError(ErrorCode.REQUEST_TOO_LARGE, f"the request state is over {STATE_BYTES_MAX} bytes")
        try:
            state = orjson.loads(request_state) if request_state else {}
            rounds = cls(dict(state.get("answers", {})), dict(state.get("asked", {})), dict(state.get("notes", {})))
        except (ValueError, AttributeError, TypeError):
            raise ToolError(
                ErrorCode.INVALID_REQUEST, "the request state is damaged", hint="Make the call anew, without it."
            ) from None
        rounds.answers |= {key: answer for key, answer in (responses or {}).items() if key in rounds.asked}
        return rounds

    def answer(self, key: str, question: Question) -> Any | None:
        """The raw answer to exactly this question, or None."""
        return self.answers.get(key) if self.asked.get(key) == question.digest() else None

    def dump(self, asking: dict[str, str]) -> str:
        """The state for the next round.

        Raises:
            ToolError: ``request_too_large``: the answers so far are over the bound.
        """
        state = orjson.dumps({"answers": self.answers, "asked": self.asked | asking, "notes": self.notes})
        if len(state) > STATE_BYTES_MAX:
            raise ToolError(ErrorCode.REQUEST_TOO_LARGE, f"the answers so far are over {STATE_BYTES_MAX} bytes")
        return state.decode()


def flat_schema(model: type[BaseModel]) -> dict[str, Any]:
    """A form's schema: an object of primitives without references, as MCP wants it.

    Raises:
        TypeError: a field is no string, number, boolean, enum or list of enum values.
    """
    schema = model.model_json_schema(by_alias=True, schema_generator=Schema)
    definitions = schema.pop("$defs", {})
    properties = {}
    for name, spec in schema.get("properties", {}).items():
        choices = [part for part in spec.get("anyOf", []) if part.get("type") != "null"]
        if len(choices) == 1:
            spec = {**choices[0], **{key: value for key, value in spec.items() if key != "anyOf"}}
        if "$ref" in spec:
            target = definitions[spec["$ref"].removeprefix("#/$defs/")]
            spec = {**target, **{key: value for key, value in spec.items() if key != "$ref"}}
        if spec.get("default", ...) is None:
            del spec["default"]
        if "const" in spec:
            spec["enum"] = [spec.pop("const")]
        if spec.get("type") not in ("string", "number", "integer", "boolean", "array"):
            raise TypeError(f"{model.__name__}.{name}: a form has only strings, numbers, booleans and enums")
        properties[name] = spec
    return {"type": "object", "properties": properties, "required": schema.get("required", [])}
