"""All checks in order; what can be asked without the bus is asked without it."""

import asyncio

from nats import errors

from opsbus.commands.where import EdgeAccess
from opsbus.doctor.bus import check_clock, check_record, check_streams
from opsbus.doctor.edge import check_edge
from opsbus.doctor.finding import Finding, fail, ok
from opsbus.doctor.workers import check_workers
from opsbus.nats_client import ConnectError, connect, without_password
from opsbus.settings import Settings, SettingsError

CONNECT_TIMEOUT_S = 5.0
CHECK_TIMEOUT_S = 20.0
ANSWER_TIMEOUT_S = 3.0
IDENTITY = "operator"


async def examine(settings: Settings | None, edge: EdgeAccess, nowhere: str = "") -> list[Finding]:
    """The findings.

    Args:
        settings: How to connect as ``operator``; None: it is not known, and ``nowhere`` says why.
        edge: The edge.
        nowhere: Why the bus cannot be looked at.
    """
    findings: list[Finding] = []
    if settings is None:
        findings.append(
            fail("bus", nowhere, "start one with 'opsbus up', name its folder with --data, or set NATS_URL")
        )
    else:
        findings += await _bus(settings)
    return findings + await check_edge(edge)


async def _bus(settings: Settings) -> list[Finding]:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            client = await connect(settings, IDENTITY)
    except (ConnectError, SettingsError) as error:
        return [fail("bus", str(error), f"the seed of the identity '{IDENTITY}' belongs into OPSBUS_NATS_SEED_FILE")]
    except (TimeoutError, OSError, errors.Error):
        return [
            fail(
                "bus",
                f"no NATS server answers at {without_password(settings.nats_url)}",
                "is it running, and is NATS_URL right?",
            )
        ]
    try:
        version = client.connected_server_version
        where = client.connected_url.netloc.rpartition("@")[2] if client.connected_url else ""
        findings = [ok("bus", f"{where} runs NATS {version.major}.{version.minor}.{version.patch}")]
        js = client.jetstream(timeout=ANSWER_TIMEOUT_S)
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            findings.append(await check_clock(client))
            findings += await check_streams(js)
            findings.append(await check_record(js))
            findings += await check_workers(client, js)
    except (TimeoutError, errors.Error) as error:
        findings.append(
            fail(
                "bus",
                f"does not answer: {error or type(error).__name__}",
                f"may '{IDENTITY}' ask? see the server's log",
            )
        )
    finally:
        await client.close()
    return findings
