"""Frames in: capture devices, one file each, opened by URI.

Each is loaded when it is asked for, with the libraries that it alone needs.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from devices.errors import BadInput
from devices.frame import CaptureDevice, Clock

IMAGES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
DICOM = frozenset({".dcm", ".dicom"})
"""What the names of image files, and of DICOM files, end in."""
MAX_DIGITS = 3
"""Of a camera's index; V4L2 counts to 255."""

PHANTOM_OPTIONS: dict[str, Callable[[str], Any]] = {
    "seed": int,
    "fps": float,
    "frames": int,
    "width": int,
    "height": int,
    "nodule": str,
    "live": lambda word: {"yes": True, "no": False}[word],
}


def device_opener(uri: str, clock: Clock = time.monotonic) -> Callable[[], CaptureDevice]:
    """Returns what opens the capture device `uri`, again and again: see `open_device`.

    A script goes on where the device before it was unplugged. Raises BadInput where it is none.
    """
    scheme, separator, rest = uri.partition(":")
    if scheme == "script" and separator:
        from devices.capture.script import FPS, find_script, parse_script, play_script
        from devices.capture.scripted import Scripted

        lines = play_script(parse_script(find_script(rest)), clock)
        return lambda: Scripted(lines, live=True, fps=FPS, clock=clock)
    return lambda: open_device(uri, clock)


def open_device(uri: str, clock: Clock = time.monotonic) -> CaptureDevice:
    """Opens the capture device that `uri` names.

    `0` or `v4l2:///dev/video0?size=1280x720&fps=30&format=mjpeg` is a camera;
    `igtl://host:18944/Probe` what an OpenIGTLink server shows; `rtsp://...` or `http://...` a
    network stream; `sweep.mp4` a video; `clip.dcm` a DICOM file; a folder or an image its stills;
    `phantom:` the simulated probe, as in `phantom:?seed=3&frames=200&live=no`; `script:faults` or
    `script:frames 40, stall 3, unplug` plays faults (`devices.capture.script`).
    Raises BadInput for what cannot be read, HardwareMissing for a camera that is not there.
    """
    if uri.isdecimal() and len(uri) <= MAX_DIGITS:
        from devices.capture.camera import Camera

        return Camera(int(uri), clock)
    scheme, separator, rest = uri.partition(":")
    if scheme == "script" and separator:
        return device_opener(uri, clock)()
    if scheme == "phantom" and separator:
        return _open_phantom(uri, clock)
    if scheme == "v4l2" and separator:
        from devices.capture.camera import Camera, parse_camera

        device, request = parse_camera(uri)
        return Camera(device, clock, request)
    if scheme == "igtl" and separator:
        from devices.capture.igtl import Igtl

        return Igtl(uri, clock)
    if scheme in ("rtsp", "http", "https") and rest.startswith("//"):
        from devices.capture.stream import Stream

        return Stream(uri, clock)
    if not uri or not Path(uri).exists():
        if "://" in uri:
            from devices.capture.stream import shown

            raise BadInput(
                f"{shown(uri)}: no capture device for {scheme}://; there are v4l2://, igtl://, "
                "rtsp://, http://, phantom: and script:"
            )
        raise BadInput(f"{uri}: no such file or folder")
    return _open_recording(Path(uri), clock)


def _open_recording(path: Path, clock: Clock) -> CaptureDevice:
    """A folder or a still, a DICOM file, or else a video."""
    if path.is_dir() or path.suffix.lower() in IMAGES:
        from devices.capture.folder import ImageFolder

        return ImageFolder(path, clock)
    if path.suffix.lower() in DICOM:
        from devices.capture.dicom import Dicom

        return Dicom(path, clock)
    from devices.capture.video import Video

    return Video(path, clock)


def _open_phantom(uri: str, clock: Clock) -> CaptureDevice:
    """The simulated probe with the options of its URI."""
    from devices.capture.phantom import Phantom

    options = {}
    for name, word in parse_qsl(uri.partition("?")[2], keep_blank_values=True):
        if name not in PHANTOM_OPTIONS:
            raise BadInput(f"{uri}: no option {name!r}; there are {', '.join(PHANTOM_OPTIONS)}")
        try:
            options[name] = PHANTOM_OPTIONS[name](word)
        except (ValueError, KeyError) as error:
            raise BadInput(f"{uri}: {word!r} is no value for {name}") from error
    return Phantom(**options, clock=clock)
