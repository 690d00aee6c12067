"""The bus that tests are given: empty again each time, also where the server has not tidied up yet."""

import pytest
from nats.js import JetStreamContext
from nats.js.errors import ServerError

from opsbus.testing.bus import Bus


async def test_a_store_that_cannot_be_made_yet_is_tried_again(bus: Bus) -> None:
    js = await bus.jetstream()
    await js.delete_stream("AUDIT")
    [streams] = bus.server.options.store_dir.glob("jetstream/STORE/streams")
    (streams / "AUDIT").write_text("in the way of a folder; the server clears it away when it stumbles")

    await bus.reset()

    assert (await js.stream_info("AUDIT")).state.messages == 0


async def test_a_store_that_cannot_be_made_at_all_says_what_the_server_said(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    async def full(_: JetStreamContext) -> None:
        nonlocal tries
        tries += 1
        raise ServerError(code=500, err_code=10049, description="error creating store for stream")

    monkeypatch.setattr("opsbus.testing.bus.provision", full)
    with pytest.raises(ServerError, match="creating store") as caught:
        await bus.reset()

    assert tries > 1
    assert "nats-server's log ends" in caught.value.__notes__[0]
