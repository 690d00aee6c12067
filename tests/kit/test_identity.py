"""Who may call: every call carries an identity, every refusal is on the record."""

import base64
import json
import time

import jwt
import pytest

from opsbus import Context, ErrorCode, Worker
from opsbus.identity import CACHE_MAX, PublicKey, Signer, Verifier
from opsbus.keys import MISSES_MAX, BucketKeys, publish_key, withdraw_key
from opsbus.permission import deciding
from opsbus.testing.waiting import until
from opsbus.toolerror import ToolError
from opsbus_contracts import AuditEvent, Identity, Stage, Status
from opsbus_contracts.identity import audience

worker = Worker("test", version="1.0.0")
ran: list[str] = []


@pytest.fixture(autouse=True)
def fresh():
    ran.clear()


@worker.tool(permission="test:write")
async def act(ctx: Context[None]) -> str:
    """Who am I."""
    ran.append(ctx.identity.sub)
    return ctx.identity.sub


def claims(**changed) -> Identity:
    now = int(time.time())
    return Identity(
        **({"sub": "eve", "permissions": ["*"], "iat": now, "exp": now + 60, "aud": audience("test")} | changed)
    )


def forged(signer: Signer) -> dict[str, str | None]:
    good = claims().model_dump()
    header, payload, signature = signer.sign(claims()).split(".")
    other = base64.urlsafe_b64encode(json.dumps(good | {"sub": "root"}).encode()).decode().rstrip("=")
    stranger = Signer.generate()
    no_sub = {key: value for key, value in good.items() if key != "sub"}
    return {
        "missing": None,
        "empty": "",
        "no token": "a.b.c",
        "payload exchanged": f"{header}.{other}.{signature}",
        "signature cut": f"{header}.{payload}.",
        "a stranger's key": stranger.sign(claims()),
        "a stranger's key under our id": Signer(signer.kid, stranger.private_key).sign(claims()),
        "alg none": jwt.encode(good, None, algorithm="none", headers={"kid": signer.kid}),
        "alg HS256 with the public key": jwt.encode(
            good, signer.private_key.public_key().public_bytes_raw(), algorithm="HS256", headers={"kid": signer.kid}
        ),
        "no kid": jwt.encode(good, signer.private_key, algorithm="EdDSA"),
        "odd kid": Signer("../../x", signer.private_key).sign(claims()),
        "expired": signer.sign(claims(exp=int(time.time()) - 60)),
        "issued in the future": signer.sign(claims(iat=int(time.time()) + 60)),
        "wrong audience": signer.sign(claims(aud="elsewhere")),
        "for another service": signer.sign(claims(aud=audience("other"))),
        "for no service": signer.sign(claims(aud="opsbus-bus")),
        "wrong issuer": signer.sign(claims(iss="someone")),
        "no subject": jwt.encode(no_sub, signer.private_key, algorithm="EdDSA", headers={"kid": signer.kid}),
        "too long": signer.sign(claims(roles=["x" * 20_000])),
    }


async def test_every_forgery_is_refused_and_on_the_record(run_worker, caller, bus):
    async with run_worker(worker):
        cases = forged(bus.signer)
        for name, token in cases.items():
            headers = {} if token is None else {"Opsbus-Identity": token}
            reply = await caller.call("test", "act", identity=None, headers=headers)
            assert reply.error.code is ErrorCode.UNAUTHENTICATED, name
            assert reply.executed == "no"
        assert ran == []
        js = await bus.jetstream()
        await until(lambda: audited(js, len(cases)))
        record = AuditEvent.model_validate_json((await js.get_msg("AUDIT", seq=1)).data).data
        assert (record.stage, record.error, record.executed) == (Stage.DENIED, ErrorCode.UNAUTHENTICATED, "no")
        assert (record.service, record.tool, record.method, record.seq) == ("test", "test_act", "tools/call", 1)


async def audited(js, count: int) -> bool:
    return (await js.stream_info("AUDIT")).state.messages == count


async def test_a_good_identity_runs(run_worker, caller):
    async with run_worker(worker):
        assert (await caller.call("test", "act", identity="ann")).structured == {"result": "ann"}
        assert (await caller.call("test", "act", identity="bob", permissions=["test:*"])).status is Status.OK
        assert ran == ["ann", "bob"]


@pytest.mark.parametrize("permissions", [[], ["test:read"], ["tests:*"], ["other:*"], ["test"], [""]])
async def test_without_the_permission_it_is_forbidden_and_on_the_record(run_worker, caller, bus, permissions):
    async with run_worker(worker):
        reply = await caller.call("test", "act", identity="ann", permissions=permissions)
        assert reply.error.code is ErrorCode.FORBIDDEN
        assert reply.error.details == {"permission": "test:write"}
        assert reply.executed == "no"
        assert ran == []
        js = await bus.jetstream()
        await until(lambda: audited(js, 1))
        record = AuditEvent.model_validate_json((await js.get_msg("AUDIT", seq=1)).data).data
        assert (record.actor, record.error) == ("ann", ErrorCode.FORBIDDEN)
        assert record.mutating


@pytest.mark.parametrize(
    ("globs", "needed", "may"),
    [
        (["*"], "k8s:get", True),
        (["k8s:*"], "k8s:get", True),
        (["k8s:get"], "k8s:get", True),
        (["a:b", "k8s:g*"], "k8s:get", True),
        (["k8s:get"], "k8s:getx", False),
        (["k8s:*"], "k8sx:get", False),
        ([], "k8s:get", False),
    ],
)
def test_permission_globs(globs, needed, may):
    assert deciding(tuple(globs), needed)[0] is may


class OneKey:
    """Keys in memory, counting how often they are asked for."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.asked = 0

    async def get(self, kid):
        self.asked += 1
        return self.signer.private_key.public_key() if kid == self.signer.kid else None


async def test_a_verified_token_is_remembered_until_it_expires():
    signer = Signer.generate()
    keys = OneKey(signer)
    verifier = Verifier(keys, "test")
    token = signer.mint("ann", permissions=[], service="test")
    assert (await verifier.verify(token)).sub == "ann"
    assert await verifier.verify(token) is await verifier.verify(token)
    assert keys.asked == 1
    short = signer.mint("ann", permissions=[], service="test", lifetime_s=1)
    assert (await verifier.verify(short)).sub == "ann"
    await until(lambda: verifier.known(short) is None)
    for number in range(CACHE_MAX + 10):
        await verifier.verify(signer.mint(f"user{number}", permissions=[], service="test"))
    assert len(verifier._verified) == CACHE_MAX


async def test_keys_are_fetched_when_first_seen(bus):
    js = await bus.jetstream("test")
    keys = BucketKeys(js)
    assert await keys.get(bus.signer.kid) is not None
    late = Signer.generate()
    assert await keys.get(late.kid) is None
    await publish_key(await bus.jetstream(), late.public())
    assert await BucketKeys(js).get(late.kid) is not None
    await withdraw_key(await bus.jetstream(), late.kid)
    assert await BucketKeys(js).get(late.kid) is None


async def test_a_key_past_its_time_and_a_damaged_one_vouch_for_nobody(bus):
    provisioner = await bus.jetstream()
    old, damaged = Signer.generate(), Signer.generate()
    await publish_key(provisioner, old.public(not_after=int(time.time()) - 1))
    bucket = await provisioner.key_value("KEYS")
    await bucket.put(f"identity.{damaged.kid}", b'{"kid":"x","public_key_pem":"nonsense"}')
    keys = BucketKeys(await bus.jetstream("test"))
    assert await keys.get(old.kid) is None
    assert await keys.get(damaged.kid) is None


async def test_a_flood_of_made_up_keys_is_bounded(bus, monkeypatch):
    monkeypatch.setattr("opsbus.keys.MISS_S", 600.0)  # none is forgotten before all were asked for
    keys = BucketKeys(await bus.jetstream("test"))
    for number in range(MISSES_MAX):
        assert await keys.get(f"made-up-{number}") is None
    with pytest.raises(ToolError) as raised:
        await keys.get("one-more")
    assert raised.value.code is ErrorCode.UNAVAILABLE
    with pytest.raises(ToolError):
        await keys.get("one-more")


async def test_no_bucket_is_unavailable_not_unauthenticated(run_worker, caller, bus):
    js = await bus.jetstream()
    await js.delete_stream("KV_KEYS")
    async with run_worker(worker):
        reply = await caller.call("test", "act")
    assert reply.error.code is ErrorCode.UNAVAILABLE
    assert reply.error.retryable


def test_keys_survive_their_files():
    signer = Signer.generate()
    again = Signer.from_pem(signer.pem())
    assert again.kid == signer.kid
    public = PublicKey.model_validate_json(signer.public().model_dump_json())
    assert public.load().public_bytes_raw() == signer.private_key.public_key().public_bytes_raw()
    for damaged in (b"", b"nonsense", signer.public().public_key_pem.encode()):
        with pytest.raises(ValueError):
            Signer.from_pem(damaged)
