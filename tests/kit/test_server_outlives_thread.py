"""A server that a thread of a pool started lives on when the thread ends."""

import subprocess
import threading
from pathlib import Path

import pytest

from opsbus.nats_server import NatsServer, ServerOptions
from opsbus.nkeys_ import load_or_create


def test_a_server_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    users = {"operator": load_or_create(tmp_path / "operator.nk").public}
    options = ServerOptions(store_dir=tmp_path / "data", users=users, sync_always=False, dies_with_parent=True)
    server = NatsServer(options, tmp_path)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    try:
        assert server._process is not None
        with pytest.raises(subprocess.TimeoutExpired):  # it does not end
            server._process.wait(1.0)
    finally:
        server.stop()
