"""The hardware: frames in (`devices.capture`), tensors through (`devices.compute`)."""

from devices.errors import (
    BadInput,
    DeviceLost,
    DeviceStalled,
    EndOfRecording,
    HardwareMissing,
    SonoliteError,
)
from devices.frame import Box, CaptureDevice, Clock, Frame, Pixels

__all__ = [
    "BadInput",
    "Box",
    "CaptureDevice",
    "Clock",
    "DeviceLost",
    "DeviceStalled",
    "EndOfRecording",
    "Frame",
    "HardwareMissing",
    "Pixels",
    "SonoliteError",
]
