"""Every tool as a client sees it: kept in a golden file, and what all definitions together cost a model.

``OPSBUS_WRITE_GOLDEN=1 pytest tests/integration/test_tool_definitions.py`` writes the file anew; read its diff.
"""

import importlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from rs_bpe.bpe import openai

GOLDEN = Path(__file__).parents[2] / "docs" / "tools.json"
WORKERS = ("k8s_ops", "monitoring", "cmdb", "audit", "approvals")
OPERATING = ("k8s_", "monitoring_", "cmdb_")
PLAIN = frozenset({"limit", "cursor", "title", "uid", "idempotency_key"})
"""Arguments that every client knows."""
TOKENS_MAX = 12_000
"""Of all that operates systems, as a model reads it: name, description and arguments."""


def definitions() -> dict[str, dict[str, Any]]:
    """By MCP name, as announced."""
    found = {}
    for module in WORKERS:
        worker = importlib.import_module(f"opsbus_{module}.app").build()
        for name, tool in worker.registry.tools.items():
            spec = tool.spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"name"})
            found[f"{worker.name}_{name}"] = spec
    return dict(sorted(found.items()))


def test_the_golden_file_holds_every_definition() -> None:
    text = json.dumps(definitions(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    if os.environ.get("OPSBUS_WRITE_GOLDEN") == "1":
        GOLDEN.write_text(text, encoding="utf-8")
    known = json.loads(GOLDEN.read_text(encoding="utf-8"))
    now = json.loads(text)
    differ = [name for name in sorted(known | now) if known.get(name) != now.get(name)]
    assert not differ, f"look at these, then write the golden file anew (see above): {', '.join(differ)}"


def test_all_definitions_together_are_cheap_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    encoding = openai.o200k_base()
    cost = {
        name: encoding.count(
            json.dumps(
                {"name": name, "description": spec["description"], "inputSchema": spec["inputSchema"]},
                separators=(",", ":"),
                ensure_ascii=False,
            )
        )
        for name, spec in definitions().items()
    }
    operating = sum(tokens for name, tokens in cost.items() if name.startswith(OPERATING))
    with capsys.disabled():
        total = sum(cost.values())
        print(f"\n  {len(cost)} tools: {total} tokens (o200k); k8s, monitoring and cmdb: {operating}")
        dearest = sorted(cost, key=lambda name: -cost[name])[:5]
        print("  dearest: " + ", ".join(f"{name} {cost[name]}" for name in dearest))
    assert operating < TOKENS_MAX


@pytest.mark.parametrize("name", sorted(definitions()))
def test_a_description_says_when_to_use_it(name: str) -> None:
    spec = definitions()[name]
    assert 40 <= len(spec["description"]) <= 1_200
    assert spec["annotations"].keys() >= {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
    assert spec["outputSchema"]["type"] == "object"
    for argument, schema in spec["inputSchema"]["properties"].items():
        assert schema.get("description") or argument in PLAIN, f"{argument} is not described"
