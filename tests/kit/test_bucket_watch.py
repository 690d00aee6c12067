"""A watch says that it is current, also when what it should see last has expired."""

import asyncio

from nats.js.api import KeyValueConfig

from opsbus.bucket_watch import BucketWatch
from opsbus.testing.bus import Bus
from opsbus.testing.waiting import until


async def test_the_last_entry_expired_before_the_watch_began(bus: Bus) -> None:
    js = await bus.jetstream()
    bucket = await js.create_key_value(KeyValueConfig(bucket="WATCHED", limit_marker_ttl=1))
    found: dict[str, bytes | None] = {}
    try:
        await bucket.put("stays", b"1")
        await bucket.create("goes", b"2", msg_ttl=1)
        info = await js.stream_info("KV_WATCHED")
        assert info.state.last_seq == 2

        async def has_gone() -> bool:
            """The entry, and the mark that it expired."""
            state = (await js.stream_info("KV_WATCHED")).state
            return state.messages == 1

        await until(has_gone)
        watch = BucketWatch(await bus.connect("provisioner"), "WATCHED", found.__setitem__, lambda: list(found))
        await watch.start()
        try:
            assert found == {"stays": b"1"}
            assert watch.age_s < 30
            await bucket.put("comes", b"3")
            await until(lambda: found.get("comes") == b"3")
            await bucket.delete("stays")
            await until(lambda: found["stays"] is None)
        finally:
            await asyncio.wait_for(watch.stop(), 30)
    finally:
        await js.delete_key_value("WATCHED")
