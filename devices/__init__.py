"""The hardware: frames in (`devices.capture`), tensors through (`devices.compute`)."""

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
    SonoliteError,
)
from devices.frame import Box, CaptureDevice, Clock, Frame, Pixels

# OpenCV reads this when it is first imported, which no module above does; its own warnings would
# bury the one line that sonolite says of a source it cannot open.
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
    "Pixels",
    "SonoliteError",
]
