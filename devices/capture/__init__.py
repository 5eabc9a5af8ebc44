"""Frames in: capture devices, one file each, opened by URI.

Each is loaded when it is asked for, with the libraries that it alone needs.
"""

import time
from collections.abc import Callable
from pathlib import Path

from devices.capture.kinds import DICOM, IMAGES, Kind, kind_of
from devices.capture.registry import FILES, FOLDER, SCHEMES, on_disk, prefixes, scheme_of
from devices.errors import BadInput
from devices.frame import CaptureDevice, Clock

__all__ = ["DICOM", "IMAGES", "device_opener", "open_device"]

MAX_DIGITS = 3
"""Of a camera's index; V4L2 counts to 255."""


def device_opener(uri: str, clock: Clock = time.monotonic) -> Callable[[], CaptureDevice]:
    """Returns what opens the capture device `uri`, again and again: see `open_device`.

    A script goes on where the device before it was unplugged. Raises BadInput where it is none.
    """
    source = scheme_of(uri)
    if source is not None and source.scheme == "script" and not on_disk(uri):
        from devices.capture.script import script_opener

        return script_opener(uri, clock)
    return lambda: open_device(uri, clock)


def open_device(uri: str, clock: Clock = time.monotonic) -> CaptureDevice:
    """Opens the capture device that `uri` names: see `devices.capture.registry` for all of them.

    A camera may be named by its index alone. A file or folder of any name that exists is a
    recording, whatever the name looks like, and the content of a file decides what reads it.
    Raises BadInput for what cannot be read, HardwareMissing for a camera that is not there.
    """
    camera = uri.isdecimal() and uri.isascii() and len(uri) <= MAX_DIGITS
    if not camera and on_disk(uri):
        path = Path(uri)
        source = FOLDER if path.is_dir() else FILES[kind_of(path) or Kind.VIDEO]
        return source.open(path, clock)
    if camera:
        return SCHEMES[0].open(f"v4l2:///dev/video{int(uri)}", clock)
    if (known := scheme_of(uri)) is not None:
        return known.open(uri, clock)
    if "://" in uri:
        from devices.capture.stream import shown

        scheme = uri.partition("://")[0]
        raise BadInput(f"{shown(uri)}: no capture device for {scheme}://; there are {prefixes()}")
    raise BadInput(f"{uri}: no such file or folder")
