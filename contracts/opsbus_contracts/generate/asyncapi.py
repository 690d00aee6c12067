"""AsyncAPI 3.0 of the bus, from the subject table."""

from typing import Any

from opsbus_contracts.generate.schemas import MODELS
from opsbus_contracts.generate.yaml_text import to_yaml
from opsbus_contracts.subjects import SUBJECTS, Kind, Subject

_STEMS = {model: stem for stem, model in MODELS.items()}


def document() -> dict[str, Any]:
    """The AsyncAPI document as plain data; payloads refer to ``schemas/v1``."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for row in SUBJECTS:
        key = _key(row)
        channels[key] = _channel(row)
        operations[f"{key}.publish"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{key}"},
            "summary": f"{row.publisher} to {row.consumer}: {row.about}",
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "opsbus",
            "version": "1.0.0",
            "description": "What travels on the bus. Generated from opsbus_contracts; do not edit.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {stem: {"payload": {"$ref": f"./schemas/v1/{stem}.json"}} for stem in sorted(MODELS)},
        },
    }


def asyncapi_text() -> str:
    """``contracts/asyncapi.yaml``."""
    return to_yaml(document())


def _key(row: Subject) -> str:
    return row.subject.replace("<", "").replace(">", "").strip(".$").replace("$", "").replace(".", "_").lower()


def _channel(row: Subject) -> dict[str, Any]:
    channel: dict[str, Any] = {"address": row.subject.replace("<", "{").replace(">", "}")}
    if row.subject.endswith(".>"):
        channel["address"] = row.subject[:-1].replace("<", "{").replace(">", "}") + "{rest}"
    channel["description"] = row.about
    models = [model for model in (row.model, *row.reply) if model in _STEMS]
    if models:
        channel["messages"] = {_STEMS[m]: {"$ref": f"#/components/messages/{_STEMS[m]}"} for m in models}
    names = [t[1:-1] for t in row.subject.split(".") if t.startswith("<")] + (
        ["rest"] if row.subject.endswith(".>") else []
    )
    if names:
        channel["parameters"] = {
            name: {"description": f"one token: {name}" if name != "rest" else "the rest"} for name in names
        }
    channel["x-opsbus-kind"] = row.kind.value
    if row.kind is Kind.REQUEST and row.consumer == "worker":
        channel["bindings"] = {"nats": {"queue": "{service}"}}
    return channel
