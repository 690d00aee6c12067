"""TLS of the listener and client certificates, with certificates made here and real handshakes."""

import asyncio
import json
import ssl
import time
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from opsbus import Context, Worker
from opsbus.settings import SettingsError
from opsbus.testing.certificates import Authority, Pair
from opsbus_edge.asgi import serve, tls
from opsbus_edge.gates.client_certificate import ClientCertificates
from opsbus_edge.mcp_face.vouch import vouch
from opsbus_edge.model import Denied, Peer
from opsbus_edge.settings import EdgeSettings

IDENTITIES = [
    {"match": "uri:spiffe://shop/agents/*", "sub": "agent:{name}", "roles": ["operator"]},
    {"match": "dns:*.agents.shop", "roles": ["viewer"]},
    {"match": "email:*@shop.example", "roles": ["viewer"]},
    {"match": "cn:deployer", "sub": "deployer@shop", "roles": ["admin"]},
]


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def server(authority) -> Pair:
    return authority.issue("edge", names=["127.0.0.1", "localhost"], server=True)


@pytest.fixture
def mutual(authority, server) -> dict[str, Any]:
    """Settings of an edge that asks for certificates."""
    return {
        "tls_cert_file": server.cert,
        "tls_key_file": server.key,
        "tls_client_certificates": "optional",
        "tls_client_ca_file": authority.ca,
        "certificate_identities": IDENTITIES,
    }


def trusting(authority: Authority, client: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca))
    if client is not None:
        context.load_cert_chain(*client.files)
    return context


@asynccontextmanager
async def http(url: str, context: ssl.SSLContext):
    async with httpx.AsyncClient(base_url=url, verify=context, timeout=30, trust_env=False) as client:
        yield client


async def ask(url: str, context: ssl.SSLContext, **headers: str) -> httpx.Response:
    """One request over a connection of its own."""
    async with http(url, context) as client:
        return await client.get("/api/v1/tools", headers=headers)


async def version_of(url: str, context: ssl.SSLContext) -> str | None:
    host, port = url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        return writer.get_extra_info("ssl_object").version()
    finally:
        writer.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_old_versions_are_refused_and_new_ones_taken(run_edge, authority, server) -> None:
    async with run_edge(tls_cert_file=server.cert, tls_key_file=server.key) as running:
        assert running.url.startswith("https://")
        for version, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
            context = trusting(authority)
            context.minimum_version = context.maximum_version = version
            assert await version_of(running.url, context) == name
        old = trusting(authority)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")  # else OpenSSL's own policy refuses before the edge does
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await version_of(running.url, old)
        weak = trusting(authority)
        weak.maximum_version = ssl.TLSVersion.TLSv1_2
        weak.set_ciphers("AES256-SHA:AES128-SHA256:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await version_of(running.url, weak)
        plain = running.url.replace("https", "http")
        with pytest.raises(httpx.TransportError):
            await ask(plain, trusting(authority))
    async with run_edge(tls_cert_file=server.cert, tls_key_file=server.key, tls_minimum="1.3") as running:
        context = trusting(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await version_of(running.url, context)


async def test_a_token_counts_over_tls_as_without(run_edge, authority, server) -> None:
    async with run_edge(tls_cert_file=server.cert, tls_key_file=server.key) as running:
        good = await ask(running.url, trusting(authority), authorization=f"Bearer {running.keys.token('viewer')}")
        assert good.status_code == 200
        assert (await ask(running.url, trusting(authority))).status_code == 401


@pytest.mark.parametrize(
    ("cn", "names", "sub", "role"),
    [
        ("x", ["spiffe://shop/agents/planner"], "agent:spiffe://shop/agents/planner", "operator"),
        ("x", ["build.agents.shop"], "build.agents.shop", "viewer"),
        ("x", ["Ada@shop.example"], "ada@shop.example", "viewer"),
        ("deployer", [], "deployer@shop", "admin"),
    ],
)
async def test_a_certificate_s_name_gives_the_identity(run_edge, authority, mutual, cn, names, sub, role) -> None:
    async with run_edge(**mutual) as running:
        client = authority.issue(cn, names=names)
        found = await running.edge.authenticate({}, Peer("127.0.0.1", _der(client)))
        assert (found.sub, found.roles, found.auth) == (sub, (role,), "mtls")
        assert (await ask(running.url, trusting(authority, client))).status_code == 200


UNMAPPED: list[tuple[str, list[str]]] = [
    ("nobody", []),
    ("x", ["spiffe://shop/agents/a/b"]),
    ("x", ["spiffe://shop/agents/"]),
    ("x", ["a.b.agents.shop"]),
    ("x", ["agents.shop"]),
    ("x", ["ada@shop.example.evil.example"]),
    ("build.agents.shop", []),
    ("deployer2", []),
    ("Deployer", []),
    ("email:ada@shop.example", []),
]


async def test_a_name_that_nobody_mapped_is_refused(run_edge, authority, mutual) -> None:
    async with run_edge(**mutual) as running:
        for cn, names in UNMAPPED:
            answer = await ask(running.url, trusting(authority, authority.issue(cn, names=names, file="client")))
            assert answer.status_code == 401, (cn, names)
            assert answer.json()["error"]["message"] == "no identity is mapped to the client certificate"
            assert "certificate_identities" in answer.json()["error"]["hint"]


async def test_a_key_with_a_password_is_opened_and_never_asked_for(authority, server, tmp_path) -> None:
    key = serialization.load_pem_private_key(server.key.read_bytes(), None)
    locked = tmp_path / "locked.key"
    secret = serialization.BestAvailableEncryption(b"hunter2-long")
    locked.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, secret))
    files = {"tls_cert_file": server.cert, "tls_key_file": locked}
    assert tls.Tls(EdgeSettings(**files, tls_key_password="hunter2-long")).context
    for wrong in ("", "hunter2-wrong"):
        with pytest.raises(SettingsError) as caught:
            tls.Tls(EdgeSettings(**files, tls_key_password=wrong))
        assert "hunter2" not in str(caught.value)


async def test_strangers_expired_and_servers_certificates_fail_in_the_handshake(
    run_edge, authority, mutual, tmp_path
) -> None:
    stranger = Authority(tmp_path / "other").issue("deployer")
    expired = authority.issue("deployer", days=(-2, -1), file="expired")
    early = authority.issue("deployer", days=(1, 2), file="early")
    wrong_use = authority.issue("deployer", server=True, file="wrong-use")
    async with run_edge(**mutual) as running:
        for pair in (stranger, expired, early, wrong_use):
            with pytest.raises((httpx.TransportError, ssl.SSLError)):
                await ask(running.url, trusting(authority, pair))
        # What was refused is no identity, also with a header that a proxy would set.
        forged = {"x-ssl-client-cert": "deployer", "x-client-cert": "deployer", "opsbus.certificate": "deployer"}
        assert (await ask(running.url, trusting(authority), **forged)).status_code == 401


async def test_a_certificate_that_expires_on_an_open_connection_ends(authority) -> None:
    """TLS looks once, at the handshake; the gate looks at each request."""
    now = time.time()
    identities = EdgeSettings.model_validate(_with_ca(authority)).certificate_identities
    gate = ClientCertificates(identities, clock=lambda: now)
    peer = Peer("127.0.0.1", _der(authority.issue("deployer", days=(-1, 1))))
    assert not isinstance(await gate({}, peer), Denied)
    for days in (-2, 2):
        now = time.time() + days * 86_400
        refused = await gate({}, peer)
        assert isinstance(refused, Denied)
        assert "expired" in refused.error.message
    broken = await gate({}, Peer("127.0.0.1", b"no certificate"))
    assert isinstance(broken, Denied)


async def test_required_means_nobody_without_one(run_edge, authority, mutual) -> None:
    async with run_edge(**mutual | {"tls_client_certificates": "required"}) as running:
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await ask(running.url, trusting(authority), authorization=f"Bearer {running.keys.token('admin')}")
        assert (await ask(running.url, trusting(authority, authority.issue("deployer")))).status_code == 200


async def test_a_token_of_the_request_counts_more_than_the_connection_s_certificate(
    run_edge, authority, mutual
) -> None:
    async with (
        run_edge(**mutual) as running,
        http(running.url, trusting(authority, authority.issue("deployer"))) as client,
    ):
        bad = await client.get("/api/v1/tools", headers={"authorization": "Bearer x.y.z"})
        assert bad.status_code == 401, "a bad token is refused, whatever the certificate says"
        assert (await client.get("/api/v1/tools")).status_code == 200


async def test_files_are_renewed_without_a_restart(run_edge, authority, server, mutual, monkeypatch) -> None:
    monkeypatch.setattr(tls, "LOOK_EVERY_S", 0.05)
    deployer = authority.issue("deployer")
    mutual["tls_client_crl_file"] = authority.revoke()
    async with run_edge(**mutual) as running, http(running.url, trusting(authority, deployer)) as long_lived:
        assert (await long_lived.get("/api/v1/tools")).status_code == 200
        before = await _serial(running.url, authority)
        assert before == server.certificate.serial_number
        server.key.write_text("no key at all")  # a renewal gone wrong: what was goes on
        await asyncio.sleep(0.3)
        assert await _serial(running.url, authority) == before
        renewed = authority.issue("edge", names=["127.0.0.1", "localhost"], server=True)
        async with asyncio.timeout(30):
            while await _serial(running.url, authority) != renewed.certificate.serial_number:
                await asyncio.sleep(0.05)
        assert (await long_lived.get("/api/v1/tools")).status_code == 200, "an open connection lives on"
        assert (await ask(running.url, trusting(authority, deployer))).status_code == 200
        authority.revoke(deployer)
        async with asyncio.timeout(30):
            while await _answers(running.url, trusting(authority, deployer)):
                await asyncio.sleep(0.05)
        assert (await long_lived.get("/api/v1/tools")).status_code == 401, "revoked on the open connection too"


async def test_a_session_resumed_from_before_a_change_proves_nothing(run_edge, authority, mutual, monkeypatch) -> None:
    """TLS 1.2 takes a session up again without looking at the certificate: not after the files have changed."""
    made: list[tls.Tls] = []
    monkeypatch.setattr(serve, "Tls", lambda settings: made.append(tls.Tls(settings)) or made[-1])
    context = trusting(authority, authority.issue("deployer"))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with run_edge(**mutual) as running:

        async def request(session: ssl.SSLSession | None) -> tuple[int, ssl.SSLSession | None, bool | None]:
            host, port = running.url.removeprefix("https://").split(":")
            return await asyncio.to_thread(_request, context, host, int(port), session)

        await asyncio.sleep(1.1)  # a session's time is in whole seconds; one of the start's second counts as older
        status, session, _ = await request(None)
        assert status == 200
        assert (await request(session))[::2] == (200, True), "a client may take its session up"
        await asyncio.sleep(1.1)
        made[0].read_again()
        with pytest.raises((ConnectionError, ssl.SSLError, IndexError)):
            await request(session)
        assert (await request(session))[::2] == (200, False), "the next try is a whole handshake"


async def test_the_identity_reaches_the_worker_and_the_record(
    run_edge, run_worker, authority, mutual, audit_events
) -> None:
    worker = Worker("demo", version="1.0.0")

    @worker.tool(permission="tools:read", read_only=True)
    async def whoami(ctx: Context) -> dict[str, Any]:
        """Who calls."""
        return {"sub": ctx.identity.sub, "auth": ctx.identity.auth, "roles": ctx.identity.roles}

    async with run_worker(worker), run_edge(**mutual) as running:
        await running.knows("demo_whoami")
        async with http(running.url, trusting(authority, authority.issue("deployer"))) as client:
            answer = await client.post("/api/v1/tools/demo_whoami/execute", json={})
        assert answer.status_code == 200, answer.text
        assert '"deployer@shop"' in answer.text
        assert '"mtls"' in answer.text
        (completed,) = [event for event in await audit_events(1) if event["subject"] == "audit.edge.completed"]
        assert (completed["actor"], completed["auth"]) == ("deployer@shop", "mtls")


LEGACY = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


async def _initialize(client: httpx.AsyncClient) -> str:
    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}
    answer = await client.post("/mcp", json=body, headers=LEGACY)
    assert answer.status_code == 200, answer.text
    session = answer.headers["mcp-session-id"]
    return str(session)


async def test_a_session_at_another_edge_keeps_address_and_certificate(run_edge, authority, mutual) -> None:
    """Every edge serves every session, also of a client that proves itself by its certificate alone."""
    context = trusting(authority, authority.issue("deployer"))
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with (
        run_edge(**mutual) as one,
        run_edge(**mutual) as other,
        http(one.url, context) as at_one,
        http(other.url, context) as at_other,
        http(other.url, trusting(authority)) as nobody,
        http(other.url, trusting(authority, authority.issue("build", names=["a.agents.shop"]))) as stranger,
    ):
        headers = LEGACY | {"mcp-session-id": await _initialize(at_one), "mcp-protocol-version": "2025-11-25"}
        assert (await at_other.post("/mcp", json=ping, headers=headers)).status_code == 200
        assert (await stranger.post("/mcp", json=ping, headers=headers)).status_code == 404
        assert (await nobody.post("/mcp", json=ping, headers=headers)).status_code == 401


async def test_only_an_edge_s_signature_vouches_for_a_certificate(run_edge, authority, mutual, bus) -> None:
    """To publish as an edge is not enough: unsigned, foreign, replayed and changed vouchers are refused."""
    from opsbus.identity import Signer

    deployer = authority.issue("deployer")
    peer = Peer("10.1.2.3", _der(deployer))
    async with run_edge(**mutual) as one, http(one.url, trusting(authority, deployer)) as client:
        session = await _initialize(client)
        nc = await bus.connect("edge")
        owner = one.edge.instance
        fields = LEGACY | {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"}
        head = json.dumps({"method": "POST", "path": "/mcp", "client": "", "headers": list(fields.items())})
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "ping"}).encode()

        async def forward(number: int, voucher: str | None, body: bytes = body) -> int:
            inbox = f"_INBOX.edge.test.http.{number}"
            subscription = await nc.subscribe(inbox)
            sent = {"Opsbus-Http": head, "Opsbus-Call": f"{number:032x}"}
            sent |= {"Opsbus-Peer": voucher} if voucher is not None else {}
            await nc.publish(f"edge.{owner}.session", body, reply=inbox, headers=sent)
            return int(json.loads((await subscription.next_msg(30)).headers["Opsbus-Http"])["status"])

        def voucher(signer: Signer, number: int, of: str = owner, about: bytes = body) -> str:
            return vouch(signer, peer, of, f"{number:032x}", head, about)

        platform = one.edge.signing.signer
        assert await forward(1, voucher(platform, 1)) == 200
        assert await forward(2, None) == 401
        assert await forward(3, voucher(Signer.generate(), 3)) == 401
        assert await forward(4, voucher(platform, 1)) == 401, "of another request"
        assert await forward(5, voucher(platform, 5, of="edge-00000000")) == 401, "for another edge"
        assert await forward(6, voucher(platform, 6), b'{"jsonrpc":"2.0","id":2,"method":"ping"}') == 401
        assert await forward(7, platform.mint("root", permissions=["*"])) == 401, "an identity is no voucher"
        assert await forward(8, "x.y.z") == 401


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tls_key_file": None}, "tls_key_file"),
        ({"tls_client_certificates": "optional"}, "tls_client_ca_file"),
        ({"certificate_identities": IDENTITIES}, "certificate_identities"),
        ({"tls_minimum": "1.1"}, "tls_minimum"),
    ],
)
def test_settings_that_do_not_fit_name_themselves(server, change, named) -> None:
    with pytest.raises(ValueError, match=named):
        EdgeSettings(**{"tls_cert_file": server.cert, "tls_key_file": server.key} | change)


@pytest.mark.parametrize("setting", ["tls_cert_file", "tls_key_file", "tls_client_ca_file", "tls_client_crl_file"])
@pytest.mark.parametrize("content", [None, "", "no PEM"])
def test_a_file_that_cannot_be_used_stops_with_one_line(mutual, tmp_path, setting, content) -> None:
    path = tmp_path / "wrong.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError) as caught:
        tls.Tls(EdgeSettings(**mutual | {setting: path}))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert "setting tls_" in str(caught.value)


def _der(pair: Pair) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return pair.certificate.public_bytes(Encoding.DER)


def _with_ca(authority: Authority) -> dict[str, Any]:
    server = authority.issue("edge", server=True)
    return {
        "tls_cert_file": server.cert,
        "tls_key_file": server.key,
        "tls_client_certificates": "optional",
        "tls_client_ca_file": authority.ca,
        "certificate_identities": IDENTITIES,
    }


async def _serial(url: str, authority: Authority) -> int:
    from cryptography import x509

    host, port = url.removeprefix("https://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=trusting(authority))
    try:
        return x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(True)).serial_number
    finally:
        writer.close()


async def _answers(url: str, context: ssl.SSLContext) -> bool:
    try:
        return (await ask(url, context)).status_code == 200
    except (httpx.TransportError, ssl.SSLError):
        return False


def _request(
    context: ssl.SSLContext, host: str, port: int, session: ssl.SSLSession | None
) -> tuple[int, ssl.SSLSession | None, bool | None]:
    """A request by hand: httpx does not take up sessions."""
    import socket

    raw = socket.create_connection((host, port), 30)
    with raw, context.wrap_socket(raw, server_hostname=host, session=session) as connection:
        connection.sendall(f"GET /api/v1/tools HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return int(answer.split(b" ", 2)[1]), connection.session, connection.session_reused
