"""The key that signs identities, exchanged while calls run: none fails, and the old one ends."""

import asyncio
import time
from typing import Any

import jwt
import pytest
from typer.testing import CliRunner

from opsbus import Context, Worker
from opsbus import identity as kit_identity
from opsbus import keys as kit_keys
from opsbus.cli import app
from opsbus.identity import Signer, Verifier
from opsbus.keys import BucketKeys, publish_key, withdraw_key
from opsbus.rotation import ADOPT_MAX_S, rotate_identity_key
from opsbus.testing.bus import Bus
from opsbus.toolerror import ToolError
from opsbus_contracts.identity import LIFETIME_S

worker = Worker("test", version="1.0.0")
signed_by: list[str] = []


@worker.tool(permission="test:read", read_only=True)
async def who(ctx: Context[None]) -> str:
    """Says who calls."""
    return ctx.identity.sub


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


def kid_of(edge: Any) -> str:
    token = edge.pipeline._minter.token(edge.stdio_caller(), "test:read")
    return str(jwt.get_unverified_header(token)["kid"])


async def test_no_call_fails_while_the_key_is_rotated(run_edge, run_worker, keys, bus: Bus) -> None:
    answered: list[int] = []
    stop = asyncio.Event()

    async def calls(running: Any, role: str) -> None:
        while not stop.is_set():
            answer = await running.call("test_who", role=role)
            assert answer.result["structuredContent"] == {"result": f"{role}@shop.example"}
            answered.append(answer.status)

    async with run_worker(worker), run_worker(worker), run_edge() as one, run_edge() as two:
        await one.knows("test_who")
        await two.knows("test_who")
        before = kid_of(one.edge)
        running = [asyncio.create_task(calls(edge, role)) for edge in (one, two) for role in ("viewer", "admin")]
        path = keys.folder / "identity.pem"
        await until(lambda: len(answered) > 20)
        done = await rotate_identity_key(await bus.jetstream("keeper"), path, adopt_s=60, by="test", reason="quarterly")
        left_s = done.old_until - time.time()
        assert done.old == before
        await until(lambda: kid_of(one.edge) == done.new == kid_of(two.edge))
        taken_up = len(answered)
        await until(lambda: len(answered) > taken_up + 20 or any(task.done() for task in running))
        stop.set()
        await asyncio.gather(*running)
        print(f"\n{len(answered)} calls while the signing key was rotated, none failed")
        assert set(answered) == {200}
    assert path.stat().st_mode & 0o777 == 0o600
    assert 60 + LIFETIME_S <= left_s <= 60 + LIFETIME_S + 60
    reader = BucketKeys(await bus.jetstream("test"))
    assert await reader.get(done.old) is not None, "tokens it has signed are good for a while"
    assert await reader.get(done.new) is not None


async def test_the_next_rotation_withdraws_what_is_past_its_time(bus: Bus, tmp_path) -> None:
    path = tmp_path / "identity.pem"
    path.write_bytes(bus.signer.pem())
    past = Signer.generate()
    keeper = await bus.jetstream("keeper")
    await publish_key(keeper, past.public(not_after=int(time.time()) - 1))
    done = await rotate_identity_key(keeper, path, adopt_s=0, by="test")
    assert done.withdrawn == [past.kid]
    assert Signer.from_pem(path.read_bytes()).kid == done.new


async def test_a_key_whose_public_part_is_not_known_is_not_used(run_edge, keys, bus: Bus) -> None:
    async with run_edge() as running:
        before, stranger = kid_of(running.edge), Signer.generate()
        path = keys.folder / "identity.pem"
        path.write_bytes(b"half a key")
        running.edge.signing.reload()
        path.write_bytes(stranger.pem())
        running.edge.signing.reload()
        await until(lambda: running.edge.signing._complained)
        await until(lambda: "is not in the bucket" in running.edge.signing._complained)
        assert kid_of(running.edge) == before
        await publish_key(await bus.jetstream("keeper"), stranger.public())
        await until(lambda: kid_of(running.edge) == stranger.kid)


async def test_tokens_of_a_withdrawn_key_end_within_the_bound(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kit_identity.REMEMBER_S + kit_keys.REMEMBER_S <= 60
    monkeypatch.setattr(kit_identity, "REMEMBER_S", 0.2)
    monkeypatch.setattr(kit_keys, "REMEMBER_S", 0.2)
    signer = Signer.generate()
    keeper = await bus.jetstream("keeper")
    await publish_key(keeper, signer.public())
    verifier = Verifier(BucketKeys(await bus.jetstream("test")), "test")
    token = signer.mint("ann", permissions=["*"], service="test")
    assert (await verifier.verify(token)).sub == "ann"
    await withdraw_key(keeper, signer.kid)

    async def refusal() -> ToolError | None:
        try:
            await verifier.verify(token)
        except ToolError as error:
            return error
        return None

    async with asyncio.timeout(30):
        while (error := await refusal()) is None:
            await asyncio.sleep(0.01)
    assert error.code == "unauthenticated"


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (None, [], "cannot be read"),
        (b"nonsense", [], "holds no unencrypted Ed25519"),
        (b"nonsense", ["--adopt", f"{ADOPT_MAX_S + 1}s"], "is too long"),
        (b"nonsense", ["--adopt", "soon"], "is no span"),
    ],
)
async def test_what_rotation_refuses(bus: Bus, tmp_path, content, arguments: list[str], said: str) -> None:
    path = tmp_path / "identity.pem"
    if content is not None:
        path.write_bytes(content)
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("keeper"))}
    command = ["keys", "rotate-identity", "--key-file", str(path), *arguments]
    result = await asyncio.to_thread(CliRunner().invoke, app, command, env=environment)
    assert result.exit_code == 1
    assert said in result.stderr
    assert (path.read_bytes() if path.exists() else None) == content


async def test_the_running_platforms_key_is_rotated_by_its_name(bus: Bus, tmp_path) -> None:
    path = tmp_path / "keys" / "identity-signing.pem"
    path.parent.mkdir()
    path.write_bytes(bus.signer.pem())
    environment = {"NATS_URL": bus.url, "OPSBUS_NATS_SEED_FILE": str(bus.credentials("keeper"))}
    command = ["keys", "rotate", "identity", "--data", str(tmp_path), "--reason", "yearly"]
    result = await asyncio.to_thread(CliRunner().invoke, app, command, env=environment)
    assert result.exit_code == 0, result.stderr
    assert Signer.from_pem(path.read_bytes()).kid != bus.signer.kid
    assert f"{bus.signer.kid} is good until" in result.stdout
