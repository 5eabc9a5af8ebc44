"""Log records: by the name of the module, silent by default, and without patient data."""

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from devices import CaptureDevice, DeviceLost, DeviceStalled, Frame, HardwareMissing
from devices.capture.reconnecting import Reconnecting

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENT = "/scans/DOE^JANE.mp4"


class Lost(CaptureDevice):
    live, fps = True, 20.0

    def read(self, timeout: float) -> Frame:
        raise DeviceLost(f"{PATIENT}: gone")


class Picture(Lost):
    def read(self, timeout: float) -> Frame:
        return Frame(np.zeros((64, 64), np.uint8), 0.0, 0)


def test_a_reopened_device_is_logged_without_its_name(caplog: pytest.LogCaptureFixture) -> None:
    devices: Iterator[CaptureDevice | Exception] = iter(
        [Lost(), HardwareMissing(f"{PATIENT}: missing"), Picture()]
    )

    def opener() -> CaptureDevice:
        device = next(devices)
        if isinstance(device, Exception):
            raise device
        return device

    now = 0.0

    def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    device = Reconnecting(opener, lambda: now, wait)
    with caplog.at_level(logging.INFO), pytest.raises(DeviceLost):
        device.read(1.0)
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            try:
                device.read(1.0)
            except DeviceStalled:
                continue
            break
    assert [record.name for record in caplog.records] == ["devices.capture.reconnecting"] * 2
    assert "open again" in caplog.text
    assert "DOE" not in caplog.text


def test_log_records_go_nowhere_unless_an_application_asks_for_them() -> None:
    code = (
        "import logging, devices, edge_runtime; "
        "logging.getLogger('devices.capture.reconnecting').warning('lost'); "
        "logging.getLogger('edge_runtime.session.pipeline').warning('hung')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
