"""Schemas from signatures, and what is said of arguments that do not fit."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from opsbus import Context, ErrorCode, Header, Page, ToolError, ToolResult, Worker
from opsbus.schema import Arguments, Returns, described_arguments, summary_of


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Item(BaseModel):
    name: str
    size: Size = Size.SMALL
    title: str = Field(default="", title="The title")


async def tool(
    ctx: Context[None],
    namespace: str,
    items: list[Item],
    limit: Annotated[int, Field(ge=1, le=500, description="How many.")] = 50,
    since: datetime | None = None,
    mode: Literal["fast", "slow"] = "fast",
    region: Annotated[str, Header("Region")] = "eu",
    schema: dict[str, int] | None = None,
    copy: bool = False,
) -> Page[Item]:
    """Does a thing.

    More about it.

    Args:
        namespace: Where. And
            more of it.
        limit (int): Not used, the annotation says it.
        mode: How.

    Returns:
        Nothing a model needs.
    """
    raise NotImplementedError


def test_input_schema():
    schema = Arguments(tool).schema
    jsonschema.Draft202012Validator.check_schema(schema)
    properties = schema["properties"]
    assert list(properties) == ["namespace", "items", "limit", "since", "mode", "region", "schema", "copy"]
    assert schema["required"] == ["namespace", "items"]
    assert schema["additionalProperties"] is False
    assert properties["namespace"] == {"type": "string", "description": "Where. And more of it."}
    assert properties["limit"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 500,
        "default": 50,
        "description": "How many.",
    }
    assert properties["mode"]["enum"] == ["fast", "slow"]
    assert properties["mode"]["description"] == "How."
    assert properties["region"]["x-mcp-header"] == "Region"
    assert "title" not in schema
    assert "title" not in schema["$defs"]["Item"]
    assert schema["$defs"]["Item"]["properties"]["title"]["title"] == "The title"


def test_description_leaves_out_what_is_for_programmers():
    assert summary_of(tool) == "Does a thing.\n\nMore about it."
    assert described_arguments("No section.") == {}


def test_arguments_arrive_as_their_types():
    given = {"namespace": "shop", "items": [{"name": "a", "size": "large"}], "since": "2026-01-01T00:00:00Z"}
    parsed = Arguments(tool).parse(given)
    assert parsed["items"] == [Item(name="a", size=Size.LARGE)]
    assert isinstance(parsed["since"], datetime)
    assert (parsed["limit"], parsed["schema"], parsed["copy"]) == (50, None, False)


@pytest.mark.parametrize(
    ("given", "fields", "meant"),
    [
        ({}, {"namespace", "items"}, []),
        ({"namespace": 1, "items": []}, {"namespace"}, []),
        ({"namespace": "a", "items": [], "limt": 3}, {"limt"}, ["limit"]),
        ({"namespace": "a", "items": [], "limit": 0}, {"limit"}, []),
        ({"namespace": "a", "items": [], "limit": 501}, {"limit"}, []),
        ({"namespace": "a", "items": [], "limit": "many"}, {"limit"}, []),
        ({"namespace": "a", "items": [{"name": "x", "size": "huge"}]}, {"items.0.size"}, []),
        ({"namespace": "a", "items": [], "mode": "warp", "since": "soon"}, {"mode", "since"}, []),
        ({"namespace": "a", "items": [], "p_limit": 3}, {"p_limit"}, ["limit"]),
        ({"namespace": "a", "items": [], "": 3}, {""}, []),
    ],
)
def test_what_is_wrong_is_named(given, fields, meant):
    with pytest.raises(ToolError) as raised:
        Arguments(tool).parse(given)
    error = raised.value
    assert error.code is ErrorCode.INVALID_ARGUMENTS
    assert {problem["field"] for problem in error.details["errors"]} - {"arguments"} == fields - {""}
    assert error.did_you_mean == meant
    assert "namespace, items, limit" in error.hint


def test_values_are_not_repeated():
    with pytest.raises(ToolError) as raised:
        Arguments(tool).parse({"namespace": ["hunter2"], "items": "hunter2", "mode": "hunter2"})
    assert "hunter2" not in str(raised.value.body())


async def no_type(ctx, namespace): ...
async def star(ctx: Context[None], *args: int): ...
async def stars(ctx: Context[None], **kwargs: int): ...
async def positional(ctx: Context[None], a: int, /): ...


@pytest.mark.parametrize("function", [no_type, star, stars, positional])
def test_a_signature_without_a_schema_is_refused(function):
    with pytest.raises(TypeError):
        Arguments(function)


def returning(annotation: Any):
    async def function(ctx: Context[None]): ...

    function.__annotations__["return"] = annotation
    return Returns(function)


@pytest.mark.parametrize("annotation", [str, int, list[Item], Item | None, Literal["a"], list[str] | str])
def test_what_is_no_object_is_wrapped(annotation):
    returns = returning(annotation)
    assert returns.wrapped
    assert returns.schema["type"] == "object"
    assert returns.schema["required"] == ["result"]
    jsonschema.Draft202012Validator.check_schema(returns.schema)


@pytest.mark.parametrize(
    "annotation",
    [Item, Page[Item], dict[str, int], Item | ToolResult, Item | Page[Item], Item | dict[str, int]],
)
def test_an_object_is_not(annotation):
    returns = returning(annotation)
    assert not returns.wrapped
    assert returns.schema["type"] == "object"
    jsonschema.Draft202012Validator.check_schema(returns.schema)


@pytest.mark.parametrize("annotation", [None, Any, ToolResult])
def test_no_type_no_schema(annotation):
    assert returning(annotation).schema is None


def test_output_schema_fits_the_output():
    returns = returning(Page[Item])
    page = Page[Item].fit([Item(name="a")], total=3, cursor="next")
    jsonschema.Draft202012Validator(returns.schema).validate(__import__("json").loads(returns.dump(page)))


def worker_with(function, **options):
    Worker("test", version="1.0.0").tool(permission="a:b", **options)(function)


async def fine(ctx: Context[None]) -> None:
    """Fine."""


def test_registration_refuses_what_cannot_work():
    with pytest.raises(ValueError, match="only reads"):
        worker_with(fine, read_only=True, destructive=True)
    with pytest.raises(ValueError, match="MCP name"):
        worker_with(fine, name="x" * 70)
    with pytest.raises(ValueError, match="MCP name"):
        worker_with(fine, name="bad-name")
    with pytest.raises(ValueError, match="no valid JSON Schema"):
        worker_with(fine, input_schema={"type": "objekt"})
    with pytest.raises(ValueError, match="type object"):
        worker_with(fine, input_schema={"type": "string"})
    worker = Worker("test", version="1.0.0")
    worker.add_tool(fine, permission="a:b")
    with pytest.raises(ValueError, match="already"):
        worker.add_tool(fine, permission="a:b")
    for name in ("edge", "Bad", "a.b", "", "operator", "test\n"):
        with pytest.raises(ValueError, match="service token"):
            Worker(name, version="1.0.0")
    with pytest.raises(ValueError, match="header name"):
        Header("no header")


def test_hints_are_all_set_and_true():
    worker = Worker("test", version="1.0.0")
    worker.add_tool(fine, permission="a:b", read_only=True, title="Fine")
    spec = worker.registry.tools["fine"].spec.model_dump(mode="json", by_alias=True)
    assert spec["annotations"] == {
        "title": "Fine",
        "readOnlyHint": True,
        "destructiveHint": False,
        "idempotentHint": True,
        "openWorldHint": False,
    }


def test_what_a_model_need_not_read_is_not_announced_and_still_checked():
    def tool(
        ctx,
        name: Annotated[str, Field(max_length=5, pattern="^[a-z]+$")],
        kinds: Annotated[list[Annotated[str, Field(min_length=2)]] | None, Field(max_length=2)] = None,
        many: int | str | None = None,
        maxItems: int = 3,  # noqa: N803 - a name that is a keyword of JSON Schema too
    ) -> str:
        return name

    arguments = Arguments(tool)
    assert arguments.schema["properties"] == {
        "name": {"type": "string"},
        "kinds": {"type": "array", "items": {"type": "string"}},
        "many": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        "maxItems": {"type": "integer", "default": 3},
    }
    assert arguments.schema["required"] == ["name"]
    assert arguments.parse({"name": "a", "kinds": None, "many": None})["kinds"] is None
    for wrong in (
        {"name": "abcdef"},
        {"name": "A"},
        {"name": "a", "kinds": ["a"]},
        {"name": "a", "kinds": ["aa", "bb", "cc"]},
    ):
        with pytest.raises(ToolError):
            arguments.parse(wrong)
