"""Frames in: capture devices, one file each, opened by URI.

Each is loaded when it is asked for, with the libraries that it alone needs.
"""

import time
from collections.abc import Callable
from pathlib import Path

from devices.capture.kinds import DICOM, IMAGES, Kind, is_record, kind_of
from devices.capture.registry import (
    FILES,
    FOLDER,
    RECORD_FOLDER,
    SCHEMES,
    Source,
    on_disk,
    prefixes,
    scheme_of,
)
from devices.capture.source_uri import SourceUri
from devices.errors import BadInput
from devices.frame import CaptureDevice, Clock

__all__ = ["DICOM", "IMAGES", "SourceUri", "device_opener", "open_device"]


def device_opener(
    uri: str | SourceUri, clock: Clock = time.monotonic, apart: bool = False
) -> Callable[[], CaptureDevice]:
    """Returns what opens the capture device `uri`, again and again: see `open_device`.

    A script goes on where the device before it was unplugged. `apart` has foreign bytes decoded in
    a process of their own. Raises BadInput where it is none.
    """
    name = SourceUri(uri)
    source = scheme_of(name.unexpanded)
    if source is not None and source.scheme == "script" and not on_disk(name.unexpanded):
        from devices.capture.script import script_opener

        return script_opener(name.unexpanded, clock)
    return lambda: _open_apart(name, clock) if apart else open_device(name, clock)


def open_device(uri: str | SourceUri, clock: Clock = time.monotonic) -> CaptureDevice:
    """Opens the capture device that `uri` names: see `devices.capture.registry` for all of them.

    A camera may be named by its index alone. A file or folder of any name that exists is a
    recording, whatever the name looks like, and the content of a file decides what reads it.
    Raises BadInput for what cannot be read, HardwareMissing for a camera that is not there.
    """
    source, place = _find(SourceUri(uri))
    return source.open(place, clock)


def _open_apart(name: SourceUri, clock: Clock) -> CaptureDevice:
    """As `open_device`, but in a process of its own what decodes foreign bytes."""
    source, place = _find(name)
    if not source.foreign:
        return source.open(place, clock)
    from devices.capture.decoder_process import DecoderProcess

    return DecoderProcess(name, source.live, clock)


def _find(name: SourceUri) -> tuple[Source, SourceUri | Path]:
    """What opens the source of this name, and what it is given. Raises BadInput for no source."""
    text = name.unexpanded
    if not name.is_camera_index and on_disk(text):
        path = Path(text)
        if not (path.is_dir() or path.is_file()):
            raise BadInput(f"{name}: neither a regular file nor a folder")
        if path.is_dir():
            return RECORD_FOLDER if is_record(path) else FOLDER, path
        return FILES[kind_of(path) or Kind.VIDEO], path
    if name.is_camera_index:
        return SCHEMES[0], SourceUri(name.key)
    if (known := scheme_of(text)) is not None:
        return known, name
    if "://" in text:
        raise BadInput(f"{name}: no capture device for this address; there are {prefixes()}")
    raise BadInput(f"{name}: no such file or folder, and no address as rtsp://HOST/PATH is one")
