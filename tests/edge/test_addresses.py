"""Where requests come from: networks, proxies and what they say, and the address in the record."""

from typing import Any

import pytest

from opsbus import Context, Worker
from opsbus.settings import SettingsError, load
from opsbus_contracts.errors import ErrorBody
from opsbus_edge.asgi.peer import HOPS_MAX, Peers, address_of, network_of
from opsbus_edge.settings import EdgeSettings

PROXIES = ["10.0.0.0/8", "fd00::/8"]


def scope(client: str | None, *headers: tuple[str, str]) -> dict[str, Any]:
    return {
        "client": (client, 40_000) if client is not None else None,
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
    }


def seen(peers: Peers, client: str | None, *headers: tuple[str, str]) -> str:
    """The address, or the code of the refusal."""
    found = peers.peer(scope(client, *headers))
    return found.code.value if isinstance(found, ErrorBody) else found.address


XFF = "x-forwarded-for"


@pytest.mark.parametrize(
    ("client", "forwarded", "address"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # no proxy: its word counts for nothing
        ("203.0.113.9", ["garbage"], "203.0.113.9"),
        ("10.1.1.1", [], "10.1.1.1"),
        ("10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # the left is the client's own word
        ("10.1.1.1", ["10.9.9.9, 198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1, 10.2.2.2"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1", "10.2.2.2"], "198.51.100.1"),  # two lines are one list
        ("10.1.1.1", ["6.6.6.6", "198.51.100.1, 10.2.2.2"], "198.51.100.1"),
        ("10.1.1.1", ["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
        ("10.1.1.1", ["garbage, 198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.1.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.1.1.1", ["[2001:db8::1]"], "2001:db8::1"),
        ("10.1.1.1", ["2001:DB8:0::1"], "2001:db8::1"),
        ("10.1.1.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.1.1.1", ["[::ffff:198.51.100.1]:80, ::ffff:10.2.2.2"], "198.51.100.1"),
        ("::ffff:10.1.1.1", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::5", ["198.51.100.1"], "198.51.100.1"),
        ("fe80::1%eth0", ["198.51.100.1"], "fe80::1"),
        ("10.1.1.1", ["unknown"], "invalid_request"),
        ("10.1.1.1", ["198.51.100.1, unknown"], "invalid_request"),
        ("10.1.1.1", ["198.51.100.1, "], "invalid_request"),
        ("10.1.1.1", ["198.51.100.256"], "invalid_request"),
        ("10.1.1.1", ["198.51.100.1.proxy.example"], "invalid_request"),
        ("10.1.1.1", ["0x0a.1.1.1"], "invalid_request"),
        ("10.1.1.1", ["010.1.1.1"], "invalid_request"),
        ("10.1.1.1", ["fe80::1%eth0"], "invalid_request"),
        ("10.1.1.1", ["[198.51.100.1"], "invalid_request"),
        ("10.1.1.1", ["198.51.100.1:999999"], "invalid_request"),
        ("10.1.1.1", ["198.51.100.1\x00"], "invalid_request"),
        ("10.1.1.1", [""], "invalid_request"),
        (None, ["198.51.100.1"], ""),
        ("/run/edge.sock", ["198.51.100.1"], ""),
    ],
)
def test_x_forwarded_for_counts_from_trusted_proxies_from_the_right(
    client: str | None, forwarded: list[str], address: str
) -> None:
    assert seen(Peers([], [], PROXIES), client, *((XFF, value) for value in forwarded)) == address


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        (["for=198.51.100.1"], "198.51.100.1"),
        (["For=198.51.100.1;proto=https;by=203.0.113.43"], "198.51.100.1"),
        (["proto=https;for=198.51.100.1"], "198.51.100.1"),
        (['for="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17"),
        (['for="198.51.100.1:80"'], "198.51.100.1"),
        (["for=6.6.6.6, for=198.51.100.1;proto=http, for=10.2.2.2"], "198.51.100.1"),
        (["for=6.6.6.6", "for=198.51.100.1"], "198.51.100.1"),
        (['for=", for=198.51.100.1'], "198.51.100.1"),  # an open quote of the client's hides nothing
        (["for=unknown"], "invalid_request"),
        (["for=_hidden"], "invalid_request"),
        (["for=198.51.100.1;for=6.6.6.6"], "invalid_request"),
        (["proto=https"], "invalid_request"),
        (["198.51.100.1"], "invalid_request"),
        (['for="198.51.100.1, 10.2.2.2"'], "invalid_request"),
        ([], "10.1.1.1"),
    ],
)
def test_forwarded_counts_as_rfc_7239_has_it(forwarded: list[str], address: str) -> None:
    peers = Peers([], [], PROXIES, "forwarded")
    spoofed = (XFF, "6.6.6.6")  # the header that the proxies do not write is the client's
    assert seen(peers, "10.1.1.1", spoofed, *(("forwarded", value) for value in forwarded)) == address


def test_the_other_header_is_not_looked_at() -> None:
    assert seen(Peers([], [], PROXIES), "10.1.1.1", ("forwarded", "for=6.6.6.6")) == "10.1.1.1"


def test_endless_chains_are_cut() -> None:
    long = ", ".join(["6.6.6.6"] + ["10.0.0.1"] * (HOPS_MAX * 100))
    assert seen(Peers([], [], PROXIES), "10.1.1.1", (XFF, long)) == "10.0.0.1"


@pytest.mark.parametrize(
    ("client", "outcome"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.66", "forbidden"),  # denied wins
        ("::ffff:192.0.2.66", "forbidden"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("198.51.100.7", "198.51.100.7"),  # named by its mapped network
        ("203.0.113.1", "forbidden"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db9::1", "forbidden"),
        (None, "forbidden"),
        ("/run/edge.sock", "forbidden"),
    ],
)
def test_only_allowed_networks_come_in(client: str | None, outcome: str) -> None:
    peers = Peers(["192.0.2.0/24", "::ffff:198.51.100.0/120", "2001:db8::/32"], ["192.0.2.64/28"], [])
    for _ in range(2):  # the second time from memory
        assert seen(peers, client) == outcome


def test_the_lists_judge_the_client_and_not_the_proxy() -> None:
    peers = Peers(["198.51.100.0/24"], [], ["10.0.0.0/8"])
    assert seen(peers, "10.1.1.1", (XFF, "198.51.100.1")) == "198.51.100.1"
    assert seen(peers, "10.1.1.1", (XFF, "203.0.113.1")) == "forbidden"
    assert seen(peers, "10.1.1.1") == "forbidden"  # the proxy itself is not on the list
    denied = Peers([], ["203.0.113.0/24"], ["10.0.0.0/8"])
    assert seen(denied, "10.1.1.1", (XFF, "203.0.113.1, 198.51.100.1")) == "198.51.100.1"
    assert seen(denied, "10.1.1.1", (XFF, "198.51.100.1, 203.0.113.1")) == "forbidden"


def test_addresses_and_networks_are_read_strictly() -> None:
    assert str(network_of("::ffff:10.0.0.0/104")) == "10.0.0.0/8"
    assert str(network_of("192.0.2.1")) == "192.0.2.1/32"
    for text in ("", " ", "1", "1.2.3", "1.2.3.4/8", "localhost", "١.2.3.4", "1.2.3.4 ", "[1.2.3.4]x"):
        assert address_of(text) is None, text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies"),
        ({"allowed_networks": ["everyone"]}, "allowed_networks"),
        ({"denied_networks": [""]}, "denied_networks"),
        ({"forwarded_header": "x-real-ip"}, "forwarded_header"),
        ({"cors_origins": ["*"], "cors_credentials": True}, "cors_credentials"),
    ],
)
def test_wrong_settings_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(EdgeSettings, "edge", **given)


def demo() -> Worker:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="demo:read", read_only=True)
    async def echo(ctx: Context, text: str = "") -> dict[str, object]:
        """Says it again."""
        return {"text": text}

    return worker


async def test_a_call_is_recorded_with_the_address_of_its_client(run_edge, run_worker, audit_events) -> None:
    async with run_edge(trusted_proxies=["127.0.0.0/8"]) as running, run_worker(demo()):
        await running.knows("demo_echo")
        forwarded = {XFF: "6.6.6.6, 198.51.100.7"}
        await running.call("demo_echo", headers=forwarded)
        await running.rest("POST", "/api/v1/tools/demo_echo/execute", json={}, headers=forwarded)
        # the SDK's path: an Accept header that the express lane leaves to it
        await running.call("demo_echo", headers=forwarded | {"mcp-method": "tools/call", "accept": "*/*"})
        await running.call("demo_echo")
        refused = await running.call("demo_echo", headers={XFF: "nobody"})
        events = await audit_events(8)
    assert refused.status == 400
    assert [event.get("address") for event in events] == ["198.51.100.7"] * 6 + ["127.0.0.1"] * 2


async def test_who_may_not_come_is_told_so_before_anything_else(run_edge) -> None:
    async with run_edge(allowed_networks=["192.0.2.0/24"], trusted_proxies=["127.0.0.1"]) as running:
        for path in ("/mcp", "/api/v1/tools", "/docs", "/metrics", "/health", "/nothing"):
            answer = await running.rest("GET", path)
            assert answer.status_code == 403, path
            assert answer.json()["error"]["code"] == "forbidden"
            assert "allowed_networks" in answer.json()["error"]["hint"]
        assert (await running.rest("GET", "/ready")).status_code == 200
        assert (await running.rest("GET", "/api/v1/tools", headers={XFF: "192.0.2.1"})).status_code == 200
        metrics = await running.http.get("/metrics", headers={XFF: "192.0.2.1"})
        assert 'opsbus_edge_turned_away_total{why="address"} 6.0' in metrics.text
