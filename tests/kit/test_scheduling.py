"""Processes of the platform ask for long turns, all their threads with them, and may be told not to."""

import os
import sys
from pathlib import Path

import pytest

from opsbus import settings
from opsbus.scheduling import ask_for
from opsbus.settings import Settings, SettingsError
from opsbus.testing.bus import Bus

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has batch scheduling")


def policies(process: int) -> set[int]:
    return {os.sched_getscheduler(int(task.name)) for task in Path(f"/proc/{process}/task").iterdir()}


def test_the_bus_that_the_kit_starts_is_asked_for_it(opsbus_server: Bus) -> None:
    assert opsbus_server.server.pid is not None
    assert policies(opsbus_server.server.pid) == {os.SCHED_BATCH}


def test_normal_leaves_all_as_it_is_and_a_process_that_is_gone_is_no_error() -> None:
    before = policies(os.getpid())
    assert ask_for("normal")
    assert policies(os.getpid()) == before
    assert not ask_for("batch", 2**22 - 1)


def test_the_setting_has_two_values() -> None:
    assert settings.load(Settings, "demo").scheduling == "batch"
    assert settings.load(Settings, "demo", scheduling="normal").scheduling == "normal"
    with pytest.raises(SettingsError, match="scheduling"):
        settings.load(Settings, "demo", scheduling="real-time")
