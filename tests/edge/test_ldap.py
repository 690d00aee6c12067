"""A directory's password for a token: against a real slapd, over LDAPS and StartTLS."""

import asyncio
import contextlib
import socket
import statistics
import time
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import jwt
import pytest

from opsbus.identity import Signer
from opsbus.settings import SettingsError
from opsbus.testing.certificates import Authority
from opsbus_edge.settings import EdgeSettings
from opsbus_edge.sign_in import endpoint
from opsbus_edge.sign_in.directory import Directory
from opsbus_edge.sign_in.found import DirectoryError
from opsbus_edge.sign_in.throttle import Throttle
from opsbus_edge.sign_in.tokens import SessionTokens


def _load(path: Path) -> Any:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


slapd_server = _load(Path(__file__).parent / "slapd_server.py")

GROUP = "ou=groups,dc=shop,dc=example"
ROLES = {
    "CN=Operators, OU=groups, DC=shop, DC=example": ["operator"],
    f"cn=viewers,{GROUP}": ["viewer"],
    f"cn=Payroll\\, EU,{GROUP}": ["admin"],
}


@pytest.fixture(scope="module")
def slapd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A directory; without slapd the test is skipped, and says so."""
    reason = slapd_server.missing()
    if reason:
        pytest.skip(reason)
    made = slapd_server.Slapd(tmp_path_factory.mktemp("slapd"))
    made.start()
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def ldap(slapd: Any, tmp_path: Path) -> dict[str, Any]:
    """Settings of an edge that asks it."""
    key = tmp_path / "token.pem"
    key.write_bytes(Signer.generate().pem())
    return {
        "ldap_url": slapd.url,
        "ldap_ca_file": slapd.authority.ca,
        "ldap_bind_dn": slapd_server.READER,
        "ldap_bind_password": slapd_server.READER_PASSWORD,
        "ldap_user_base": "ou=people,dc=shop,dc=example",
        "ldap_group_base": GROUP,
        "ldap_group_roles": ROLES,
        "ldap_timeout_s": 10,
        "token_key_file": key,
    }


@contextlib.contextmanager
def asking(settings: dict[str, Any]) -> Iterator[Directory]:
    directory = Directory(EdgeSettings(**settings))
    try:
        yield directory
    finally:
        directory.close()


async def sign_in(running: Any, user: Any, password: Any, **more: Any) -> Any:
    return await running.http.post("/auth/token", json={"user": user, "password": password}, **more)


@pytest.mark.parametrize("way", ["ldaps", "starttls", "clear"])
async def test_the_right_password_gives_name_and_roles(slapd, ldap, way) -> None:
    if way != "ldaps":
        ldap |= {"ldap_url": slapd.plain_url, "ldap_starttls": way == "starttls"}
        ldap |= {"ldap_without_tls": "yes, passwords in the clear"} if way == "clear" else {}
    with asking(ldap) as directory:
        ada = await directory.check("ada", slapd_server.PEOPLE["ada"])
        assert (ada.sub, ada.roles) == ("ada", ("operator",))
        bob = await directory.check("BOB", slapd_server.PEOPLE["bob"])
        assert (bob.sub, bob.roles) == ("bob", ("operator", "viewer")), "as the directory writes the name"
        carol = await directory.check("carol", slapd_server.PEOPLE["carol"])
        assert carol.roles == ()
        dave = await directory.check("dave", slapd_server.PEOPLE["dave"])
        assert dave.roles == ("viewer",), "a DN with ( ) * , and \\ in it goes into a filter unharmed"


async def test_memberof_says_groups_too(slapd, ldap) -> None:
    with asking(ldap | {"ldap_group_base": ""}) as directory:
        assert (await directory.check("ada", slapd_server.PEOPLE["ada"])).roles == ("operator",)


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("ada", "wrong"),
        ("ada", ""),
        ("ada", "\u00ad"),  # SASLprep makes it empty, and an empty password is a bind that always succeeds
        ("ada", "\u200b\ufe00"),
        ("ada", "correct horse battery "),
        ("ada", "CORRECT HORSE BATTERY"),
        ("", "correct horse battery"),
        ("nobody-of-this-name", "correct horse battery"),
        ("*", "correct horse battery"),
        ("ad*", "correct horse battery"),
        ("ada)(uid=*", "correct horse battery"),
        ("*)(|(uid=*", "correct horse battery"),
        ("ada)(userPassword=*", "correct horse battery"),
        ("\\61da", "correct horse battery"),
        ("ada\\", "correct horse battery"),
        ("ada\x00", "correct horse battery"),
        ("uid=ada,ou=people,dc=shop,dc=example", "correct horse battery"),
        ("eve", "eve-secret"),  # two people have this uid
        ("opsbus", slapd_server.READER_PASSWORD),  # not below ldap_user_base
        ("admin", slapd_server.ADMIN_PASSWORD),
    ],
)
async def test_all_else_gives_nothing(ldap, user, password) -> None:
    with asking(ldap) as directory:
        assert await directory.check(user, password) is None


async def test_a_token_opens_every_edge_that_has_the_key_and_no_other(run_edge, ldap, tmp_path, audit_events) -> None:
    async with run_edge(**ldap) as one, run_edge(token_key_file=ldap["token_key_file"]) as other:
        answer = await sign_in(one, "bob", slapd_server.PEOPLE["bob"])
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        given = answer.json()
        assert (given["token_type"], given["expires_in"], given["sub"]) == ("Bearer", 900, "bob")
        assert given["roles"] == ["operator", "viewer"]
        headers = {"authorization": f"Bearer {given['access_token']}"}
        for edge in (one, other):
            assert (await edge.http.get("/api/v1/tools", headers=headers)).status_code == 200
            caller = await edge.edge.authenticate(headers)
            assert (caller.sub, caller.auth) == ("bob", "ldap")
        assert (await other.http.post("/auth/token", json={})).status_code == 404, "no directory, no sign-in"
        key = tmp_path / "another.pem"
        key.write_bytes(Signer.generate().pem())
        async with run_edge(token_key_file=key) as stranger:
            assert (await stranger.http.get("/api/v1/tools", headers=headers)).status_code == 401


async def test_refusals_are_one_and_the_same_and_recorded(run_edge, ldap, audit_events) -> None:
    async with run_edge(**ldap) as running:
        wrong = [
            await sign_in(running, user, "guess-4711")
            for user in ("ada", "nobody-of-this-name", "*", "eve", "ada ", "a\x07")
        ] + [await sign_in(running, "ada", ""), await sign_in(running, "ada", "guess\x00-4711")]
        assert {answer.status_code for answer in wrong} == {401}
        assert len({answer.text for answer in wrong}) == 1
        assert {tuple(sorted(answer.headers)) for answer in wrong} == {tuple(sorted(wrong[0].headers))}
        assert "guess" not in wrong[0].text
        none = await sign_in(running, "carol", slapd_server.PEOPLE["carol"])
        assert none.status_code == 403
        assert "ldap_group_roles" in none.json()["error"]["hint"]
        events = await audit_events(9)
        failed = [event for event in events if event["subject"] == "audit.edge.sign_in_failed"]
        assert len(failed) == 9
        assert failed[0]["actor"] == "ada"
        assert failed[0]["address"] == "127.0.0.1"
        assert all(b"guess" not in event["raw"] for event in failed)


async def test_who_is_there_does_not_show_in_the_time(run_edge, ldap) -> None:
    async with run_edge(**ldap | {"sign_in_failures_per_user": 100}) as running:
        took: dict[str, list[float]] = {"ada": [], "nobody-of-this-name": []}
        for _ in range(3):
            for user, seconds in took.items():
                began = time.perf_counter()
                assert (await sign_in(running, user, "wrong")).status_code == 401
                seconds.append(time.perf_counter() - began)
    assert all(min(seconds) >= endpoint.REFUSED_AFTER_S * 0.9 for seconds in took.values())
    known, unknown = (statistics.median(seconds) for seconds in took.values())
    print(f"\na refusal takes {known * 1000:.0f} ms for a user who is there, {unknown * 1000:.0f} ms for nobody")


NO_SIGN_INS = [
    b"",
    b"[]",
    b"{}",
    b'{"user":"ada"}',
    b'{"user":"","password":"x"}',
    b'{"user":["ada"],"password":"x"}',
    b'{"user":"ada","password":7}',
    b'{"user":"ada","password":"x","role":"admin"}',
    b'{"user":"' + b"a" * 200 + b'","password":"x"}',
    b'{"user":"ada","password":"' + b"x" * 2000 + b'"}',
    b'{"user":"ada","password":"geheim-99"',
]


async def test_what_is_no_sign_in_is_refused_without_quoting_it(run_edge, ldap) -> None:
    async with run_edge(**ldap) as running:
        for body in NO_SIGN_INS:
            answer = await running.http.post("/auth/token", content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400, body
            assert "geheim" not in answer.text
            assert "application/json" in answer.json()["error"]["hint"]


async def test_method_type_size_and_repeats(run_edge, ldap) -> None:
    async with run_edge(**ldap) as running:
        assert (await running.http.get("/auth/token?user=ada&password=x")).status_code == 405
        form = await running.http.post("/auth/token", data={"user": "ada", "password": "x"})
        assert form.status_code == 415
        big = await running.http.post(
            "/auth/token", content=b" " * 20_000, headers={"content-type": "application/json"}
        )
        assert big.status_code == 413


async def test_guessing_ends_for_a_name_and_for_a_source(run_edge, ldap) -> None:
    few = {"sign_in_failures_per_user": 3, "sign_in_failures_per_source": 6}
    async with run_edge(**ldap | few) as running:
        at_once = await asyncio.gather(*(sign_in(running, name, "wrong") for name in ("ada", "ADA", "Ada", "\uff21da")))
        assert sorted(answer.status_code for answer in at_once) == [401, 401, 401, 429], "however it is written"
        right = await sign_in(running, "ada", slapd_server.PEOPLE["ada"])
        assert right.status_code == 429
        assert 0 < int(right.headers["retry-after"]) <= 300
        assert right.json()["error"]["code"] == "rate_limited"
        assert (await sign_in(running, "bob", slapd_server.PEOPLE["bob"])).status_code == 200
        for number in range(3):
            assert (await sign_in(running, f"nobody-{number}", "wrong")).status_code == 401
        assert (await sign_in(running, "bob", slapd_server.PEOPLE["bob"])).status_code == 429, "the source guesses"


def test_failures_are_forgotten_after_the_window_and_successes_count_nothing() -> None:
    now = 0.0
    throttle = Throttle(2, 100, 60, clock=lambda: now)
    for _ in range(10):
        assert throttle.begin("ada", "10.0.0.1") == 0
        throttle.no_failure("ada", "10.0.0.1")
    assert [throttle.begin("ada", "10.0.0.1") for _ in range(3)] == [0, 0, 60]
    now = 30.0
    assert throttle.begin(" ADA", "10.0.0.2") == 30
    now = 60.0
    assert throttle.begin("ada", "10.0.0.1") == 0
    six = Throttle(100, 2, 60, clock=lambda: now)
    assert [six.begin(f"u{n}", f"2001:db8::{n}") for n in range(3)] == [0, 0, 60], (
        "one network of 64 bits is one source"
    )


async def test_a_directory_that_is_away_is_no_refusal(run_edge, ldap, tmp_path_factory) -> None:
    slapd = slapd_server.Slapd(tmp_path_factory.mktemp("away"))
    settings = ldap | {"ldap_url": slapd.url, "ldap_ca_file": slapd.authority.ca, "sign_in_failures_per_user": 1}
    async with run_edge(**settings) as running:
        for _ in range(3):  # counts as nobody's failure
            away = await sign_in(running, "ada", slapd_server.PEOPLE["ada"])
            assert away.status_code == 503
        assert "log says why" in away.json()["error"]["hint"]
        assert int(away.headers["retry-after"]) > 0
        slapd.start()
        try:
            assert (await sign_in(running, "ada", slapd_server.PEOPLE["ada"])).status_code == 200
        finally:
            slapd.stop()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ldap_bind_password": "wrong"}, "ldap_bind_dn"),
        ({"ldap_user_base": "ou=nowhere,dc=shop,dc=example"}, "nowhere"),
        ({"ldap_sub_attribute": "employeeNumber"}, "employeeNumber"),
    ],
)
async def test_a_wrong_setting_is_said_in_the_log_and_no_refusal(ldap, change, says) -> None:
    with asking(ldap | change) as directory, pytest.raises(DirectoryError, match=says):
        await directory.check("ada", slapd_server.PEOPLE["ada"])


async def test_the_directory_has_to_prove_itself(slapd, ldap, tmp_path) -> None:
    """Before any password is sent."""
    other = Authority(tmp_path / "other")
    for change in (
        {"ldap_ca_file": other.ca},
        {"ldap_ca_file": None},
        {"ldap_url": slapd.url.replace("localhost", "127.0.0.1")},
        {"ldap_url": slapd.plain_url, "ldap_starttls": True, "ldap_ca_file": other.ca},
    ):
        with asking(ldap | change) as directory, pytest.raises(DirectoryError, match=r"(?i)certificate"):
            await directory.check("ada", slapd_server.PEOPLE["ada"])


async def test_a_server_without_starttls_hears_no_password(ldap) -> None:
    heard = bytearray()

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(4096))
        # ExtendedResponse, protocolError: StartTLS is not offered.
        writer.write(bytes.fromhex("300c02010178070a010204000400"))
        heard.extend(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(refuses, "localhost", 0)
    port = server.sockets[0].getsockname()[1]
    settings = ldap | {"ldap_url": f"ldap://localhost:{port}", "ldap_starttls": True}
    try:
        with asking(settings) as directory, pytest.raises(DirectoryError):
            await directory.check("ada", slapd_server.PEOPLE["ada"])
    finally:
        server.close()
    assert slapd_server.READER_PASSWORD.encode() not in heard
    assert slapd_server.PEOPLE["ada"].encode() not in heard


async def test_a_silent_directory_holds_up_nobody_else(ldap) -> None:
    """Threads and waiting places are bounded, and the loop runs on."""
    with socket.create_server(("localhost", 0)) as silent:  # takes connections, says nothing
        port = silent.getsockname()[1]
        settings = ldap | {"ldap_url": f"ldaps://localhost:{port}", "ldap_timeout_s": 1, "ldap_concurrency": 1}
        with asking(settings) as directory:
            asked = [asyncio.create_task(directory.check("ada", "x")) for _ in range(12)]
            found = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, DirectoryError) for one in found)
    assert sum("too many" in str(one) for one in found) == 12 - 5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ldap_url": "ldap://dc.shop.example"}, "ldap_starttls"),
        ({"ldap_url": "ldap://dc.shop.example", "ldap_without_tls": "yes"}, "ldap_without_tls"),
        ({"ldap_url": "http://dc.shop.example"}, "ldap_url"),
        ({"ldap_url": "ldaps://user:pw@dc.shop.example"}, "ldap_url"),
        ({"ldap_url": "ldaps://dc.shop.example", "ldap_starttls": True}, "ldap_starttls"),
        ({"ldap_user_base": ""}, "ldap_user_base"),
        ({"ldap_user_filter": "(uid=ada)"}, "ldap_user_filter"),
        ({"ldap_group_filter": "(cn=*)"}, "ldap_group_filter"),
        ({"ldap_group_roles": {}}, "ldap_group_roles"),
        ({"ldap_bind_password": ""}, "ldap_bind_password"),
        ({"token_key_file": None}, "token_key_file"),
        ({"token_lifetime_s": 5}, "token_lifetime_s"),
    ],
)
def test_settings_that_do_not_fit_name_themselves(ldap, change, named) -> None:
    with pytest.raises(ValueError, match=named):
        EdgeSettings(**ldap | change)


async def test_roles_and_groups_that_are_none_stop_the_edge(run_edge, ldap) -> None:
    with pytest.raises(SettingsError, match="ldap_group_roles"):
        Directory(EdgeSettings(**ldap | {"ldap_group_roles": {"operators": ["operator"]}}))
    with pytest.raises(SettingsError, match="no role 'king'"):
        async with run_edge(**ldap | {"ldap_group_roles": {f"cn=viewers,{GROUP}": ["king"]}}):
            pass


async def test_a_token_holds_only_as_it_was_given(ldap) -> None:
    signer, now = Signer.generate(), int(time.time())
    tokens = SessionTokens(signer, 900)
    good = jwt.decode(tokens.issue("ada", ("viewer",)), options={"verify_signature": False})

    async def proves(claims: dict[str, Any], key: Any = signer.private_key, algorithm: str = "EdDSA") -> Any:
        token = jwt.encode(claims, key, algorithm=algorithm, headers={"typ": "opsbus-session+jwt"})
        return await tokens({"authorization": f"Bearer {token}"})

    assert (await proves(good)).sub == "ada"
    for change in ({"exp": now - 10}, {"aud": "opsbus"}, {"iss": "opsbus"}, {"iat": now + 600}):
        refused = await proves(good | change)
        assert refused.http_status == 401, change
        assert "opsbus login" in refused.error.hint
    assert (await proves({key: value for key, value in good.items() if key != "exp"})).http_status == 401
    assert (await proves(good, Signer.generate().private_key)).http_status == 401
    assert (await proves(good, "0" * 32, "HS256")).http_status == 401
    for other in ("Bearer x.y.z", "Basic YTpi", "Bearer ", "", f"Bearer {signer.mint('root', permissions=['*'])}"):
        assert await tokens({"authorization": other}) is None, "left to the other proofs"
