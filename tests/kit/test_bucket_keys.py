"""What a bucket holds is what the server says it holds."""

import pytest
from nats.errors import Error

from opsbus.bucket_keys import bucket_keys
from opsbus.testing.bus import Bus


async def test_keys_are_all_there_at_once_and_sorted(bus: Bus) -> None:
    js = await bus.jetstream()
    bucket = await js.key_value("QUARANTINE")
    assert await bucket_keys(js, "QUARANTINE") == []
    for n in range(50):
        await bucket.put(f"tool.t{n:02}", b"{}")
        assert len(await bucket_keys(js, "QUARANTINE")) == n + 1
    assert await bucket_keys(js, "QUARANTINE") == [f"tool.t{n:02}" for n in range(50)]


async def test_a_deleted_key_is_named_until_its_mark_goes(bus: Bus) -> None:
    js = await bus.jetstream()
    bucket = await js.key_value("QUARANTINE")
    await bucket.put("tool.a", b"{}")
    await bucket.delete("tool.a")
    assert await bucket_keys(js, "QUARANTINE") == ["tool.a"]


async def test_no_bucket_is_an_error_not_an_empty_list(bus: Bus) -> None:
    with pytest.raises(Error):
        await bucket_keys(await bus.jetstream(), "NO_SUCH_BUCKET")
