"""Every process of the platform reaches a bus that takes TLS with client certificates alone."""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from opsbus.testing.tls_bus import TlsBus
from opsbus.up.probe import service_ready

SERVICES = ("edge", "monitoring", "cmdb", "audit")
"""k8s-ops needs a cluster to get ready; it connects by the same code as the other workers."""
START_S = 90.0


@pytest.fixture
def tls_bus(tmp_path: Path) -> Iterator[TlsBus]:
    made = TlsBus(tmp_path / "bus")
    made.start()
    yield made
    made.stop()


@pytest.mark.timeout(300)  # four processes at once, and their ends
async def test_every_process_gets_ready_over_mutual_tls(tls_bus: TlsBus, tmp_path: Path) -> None:
    await tls_bus.reset()
    await tls_bus.close()
    (tmp_path / "identity.pem").write_bytes(tls_bus.signer.pem())
    server = tls_bus.authority.issue("edge", names=["ops.shop.example"], server=True, file="edge")
    common = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "NATS_URL": tls_bus.url, "OPSBUS_HTTP_PORT": "0"}
    common |= {f"OPSBUS_{name.upper()}": str(path) for name, path in tls_bus.files().items()}
    common |= {
        "OPSBUS_EDGE_IDENTITY_KEY_FILE": str(tmp_path / "identity.pem"),
        "OPSBUS_EDGE_HTTP_PORT": "0",
        "OPSBUS_EDGE_TLS_CERT_FILE": str(server.cert),
        "OPSBUS_EDGE_TLS_KEY_FILE": str(server.key),
        "OPSBUS_AUDIT_DATABASE_URL": f"sqlite:///{tmp_path}/audit.sqlite3",
        "OPSBUS_CMDB_DATABASE_URL": f"sqlite:///{tmp_path}/cmdb.sqlite3",
    }
    await asyncio.gather(*(_gets_ready(name, tls_bus, common, tmp_path) for name in SERVICES))


async def _gets_ready(name: str, bus: TlsBus, common: dict[str, str], folder: Path) -> None:
    ready, log = folder / f"{name}.ready", folder / f"{name}.log"
    own = {"OPSBUS_READY_FILE": str(ready), "OPSBUS_NATS_SEED_FILE": str(bus.credentials(name))}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "opsbus", "run", name, env=common | own, stdout=out, stderr=out
        )
    try:
        probe = service_ready(ready)
        async with asyncio.timeout(START_S):
            while not await probe():  # as 'opsbus up' asks; the edge's own face is https with a name of elsewhere
                assert process.returncode is None, log.read_text()
                await asyncio.sleep(0.1)
        if name == "edge":
            assert json.loads(ready.read_text())["http_url"].startswith("https://")
    except TimeoutError:
        pytest.fail(f"{name} is not ready: {log.read_text()[-2000:]}")
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 40)
            except TimeoutError:
                process.kill()
                await process.wait()
