"""The requests that the load repeats, and what is read of what wrk said."""

import io
import json

import pytest

from bench import calls, load, plan
from bench.edges import no_audit, no_gate, no_limits, no_metrics, no_policy, no_traces, without
from bench.scale import crowd
from opsbus_contracts import Manifest
from opsbus_edge.settings import EdgeSettings


def test_what_wrk_said_is_its_last_line() -> None:
    said = 'Running 2s test\n{"requests":10,"us":2000000,"errors":0,"p50":1.5,"p95":2.5,"p99":3.5}\n'
    assert load._facts(said)["p95"] == 2.5
    with pytest.raises(load.LoadError, match="unable to connect"):
        load._facts("unable to connect to 127.0.0.1")


async def test_without_wrk_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(load.LoadError, match="apt-get install wrk"):
        await load.post("http://127.0.0.1:1/", {}, b"{}", connections=1, seconds=1, pids={})


def test_a_script_repeats_one_request() -> None:
    headers, body = calls.request("a.b.c", "demo_echo")
    script = load._script("http://127.0.0.1:1/mcp", headers, body, ())
    assert 'wrk.headers["Authorization"] = "Bearer a.b.c"' in script
    assert json.dumps(body.decode()) in script


def test_a_script_for_sessions_takes_turns_and_counts() -> None:
    headers, body = calls.in_session("a.b.c", "demo_echo")
    script = load._script("http://127.0.0.1:80/mcp", headers, body, ["edge-1.aa", "edge-1.bb"])
    assert script.count("Mcp-Session-Id: edge-1.") == 2
    assert f"Content-Length: {len(body)}" in script
    assert str(load.ID) not in script.split("n = ")[0]
    with pytest.raises(ValueError, match="count from"):
        load._script("http://127.0.0.1:80/mcp", headers, b"{}", ["edge-1.aa"])


def test_only_what_lua_can_hold_goes_into_a_script() -> None:
    with pytest.raises(ValueError, match="ASCII"):
        load._lua("ü")


@pytest.mark.parametrize("parts", [no_audit.PARTS, no_gate.PARTS, no_limits.PARTS, no_metrics.PARTS, no_policy.PARTS])
def test_what_is_taken_out_of_the_edge_is_still_in_it(parts: tuple[without.Part, ...]) -> None:
    without.check(parts)


def test_a_part_that_is_gone_is_not_measured_as_if_it_were_out() -> None:
    with pytest.raises(SystemExit, match="no such_thing any more"):
        without.check([(load, "such_thing", None)])


def test_what_is_switched_off_by_settings_is_a_setting() -> None:
    for name in (*no_limits.SETTINGS, *no_traces.SETTINGS):
        assert name in EdgeSettings.model_fields


def test_a_crowd_announces_what_the_contract_allows() -> None:
    announced = crowd.with_tools(2_500) | crowd.instances(3)
    assert len(announced) == 6
    manifests = [Manifest.model_validate_json(raw) for raw in announced.values()]
    assert sum(len(one.tools) for one in manifests if one.service.startswith("many")) == 2_500


def test_progress_says_what_runs_and_how_long_it_still_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    now = plan.Plan(screen=screen)
    now.begin("door", 100, 200)
    now.step("row 1")
    assert screen.getvalue() == "door: about 100 s, then 200 s more\n"
    monkeypatch.setattr(screen, "isatty", lambda: True)
    now.step("1 bare relay, round 2 of 3")
    assert screen.getvalue().endswith("door: 1 bare relay, round 2 of 3; about 5 min left")
    now.clear()
    assert screen.getvalue().endswith("\x1b[2K")
