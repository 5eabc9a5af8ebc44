"""What the server sends for a frame: the result and the picture in one message.

A box can thus never belong to another picture. The message is the length of the JSON in four
bytes, the JSON in UTF-8, and the picture as JPEG. Big-endian.
"""

import struct
from dataclasses import replace

import msgspec
import numpy as np
import simplejpeg

from devices import Pixels
from edge_runtime.results.result import Nodule, Result, to_json
from edge_runtime.results.states import State
from edge_runtime.sinks.overlay import FULL_TINT_EVIDENCE, beyond_threshold

JPEG_QUALITY = 85
"""Of 100. Only the view is compressed; the model gets the frame as it was captured."""
WITHOUT_PICTURE = (State.STALE, State.LOST)
"""States whose picture is too old to be shown."""


def pack(result: Result, pixels: Pixels | None, missed: int) -> bytes:
    """The message of a result with the screen `pixels`, as of `Sink.write`.

    `missed` counts the frames of the device that have no result. There is no picture where there
    are no pixels, no frame, or a state in WITHOUT_PICTURE. Evidence goes with every nodule that has
    it: a map is small, and each page chooses whether to draw it.
    """
    anonymous = replace(result, file=None)  # the name of a file may be that of a patient
    header = msgspec.json.encode(
        {
            "result": msgspec.Raw(to_json(anonymous)),
            "missed": missed,
            "evidence": [
                {"window": nodule.window, "tint": _tint_of(nodule)}
                for nodule in result.nodules
                if nodule.evidence is not None
            ],
        }
    )
    current = result.frame is not None and result.state not in WITHOUT_PICTURE
    picture = encode_picture(pixels) if pixels is not None and current else b""
    return struct.pack(">I", len(header)) + header + picture


def _tint_of(nodule: Nodule) -> list[list[int]]:
    """The evidence in hundredths of the full tint: above 0 a place speaks for the last label."""
    share = np.clip(beyond_threshold(nodule) / FULL_TINT_EVIDENCE, -1, 1)
    rows: list[list[int]] = np.rint(100 * share).astype(int).tolist()
    return rows


def encode_picture(pixels: Pixels) -> bytes:
    """The screen as JPEG; nothing where it is neither grey nor BGR."""
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        space, sampling = "BGR", "420"
    elif pixels.ndim == 2:
        pixels, space, sampling = pixels[..., np.newaxis], "GRAY", "Gray"
    else:
        return b""
    coded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), JPEG_QUALITY, space, sampling, fastdct=True
    )
    return coded
