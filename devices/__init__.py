"""The hardware: capture devices (`devices.capture`) and backends (`devices.compute`)."""

import logging
import os

from devices.errors import (
    BadInput,
    CheckFailed,
    DeviceLost,
    DeviceStalled,
    EndOfRecording,
    HardwareMissing,
    NoSignal,
    NotDelivered,
    NothingSent,
    SonoliteError,
    describe_error,
)
from devices.frame import Box, CaptureDevice, Clock, Frame, Pixels

# OpenCV reads this variable at its first import, which comes later. Its warnings would hide the one
# line of sonolite about a source that cannot be opened.
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

# Log records go nowhere unless the application configures `logging`.
logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "BadInput",
    "Box",
    "CaptureDevice",
    "CheckFailed",
    "Clock",
    "DeviceLost",
    "DeviceStalled",
    "EndOfRecording",
    "Frame",
    "HardwareMissing",
    "NoSignal",
    "NotDelivered",
    "NothingSent",
    "Pixels",
    "SonoliteError",
    "describe_error",
]
