"""Pictures in which nodules are marked by boxes, to learn from where a nodule is.

A picture without a box is known to show none, which is not the same as a picture that nobody has
looked at. `train.importers.boxes` reads them from the layouts of annotation tools.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from devices import BadInput, Box, CaptureDevice, EndOfRecording, Pixels
from devices.capture.dicom import MAX_FRAMES, Dicom, read_frame, read_header
from devices.capture.image import read_image
from devices.capture.kinds import Kind, kind_of
from devices.capture.promised import promised_frames
from devices.capture.registry import PYDICOM
from devices.capture.video import Video
from train.samples import MIN_BOX, MIN_PICTURE, Dropped, Part, Reason, frame_name, shows_mask

BEYOND = 1
"""Pixels that a box may lie beyond the edge of its picture: some tools count from 1, some round."""


@dataclass(frozen=True)
class MarkedPicture:
    """One picture, or one frame of a moving one, with the boxes of all its nodules."""

    path: Path
    """An image, a DICOM file or a video."""
    boxes: tuple[Box, ...]
    """In pixels of the picture as it is shown; empty where it is known to show no nodule."""
    group: str
    """A patient, case or clip, never on two sides of a split."""
    frame: int = 0
    """Of a moving picture, from 0."""
    part: Part | None = None
    """What it is for, where the data say so."""
    size: tuple[int, int] | None = None
    """Width and height of the picture that the boxes were drawn in, where that is known."""


@dataclass(frozen=True)
class MarkedCollection:
    """What was found in a data set."""

    pictures: tuple[MarkedPicture, ...]
    dropped: tuple[Dropped, ...]
    layout: str = field(compare=False)
    """How the data lie on the disk, in words for a user."""
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What a user should know of how they were read."""

    @property
    def summary(self) -> str:
        """The layout that was recognised, and how much it holds, in one line."""
        boxes = sum(len(picture.boxes) for picture in self.pictures)
        empty = sum(not picture.boxes for picture in self.pictures)
        return (
            f"{self.layout}, {len(self.pictures)} pictures, {boxes} boxes, {empty} without a nodule"
        )


def check_box(box: Box, size: tuple[int, int] | None) -> Reason | None:
    """Why a box cannot be used in a picture of that width and height, where it is known."""
    if min(box.w, box.h) < 1:
        return "not a box"
    if min(box.x, box.y) < -BEYOND:
        return "box outside the picture"
    if size is not None and (box.x + box.w > size[0] + BEYOND or box.y + box.h > size[1] + BEYOND):
        return "box outside the picture"
    return "too small" if max(box.w, box.h) < MIN_BOX else None


def check_marked(pixels: Pixels, picture: MarkedPicture) -> Reason | None:
    """Why a picture cannot be used, judged by its pixels and its boxes; None where it can.

    One bad box is enough: without it, the picture would say that nothing is there.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_PICTURE:
        return "too small"
    if shows_mask(pixels):
        return "mask"
    if picture.size is not None and picture.size != (width, height):
        return "annotated at another size"
    reasons = (check_box(box, (width, height)) for box in picture.boxes)
    return next((reason for reason in reasons if reason is not None), None)


def within(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box that lies in a picture of that width and height."""
    left, top = max(0, box.x), max(0, box.y)
    right, bottom = min(size[0], box.x + box.w), min(size[1], box.y + box.h)
    return Box(left, top, right - left, bottom - top)


def marked_pixels(
    pictures: Iterable[MarkedPicture],
    progress: Callable[[Iterable[MarkedPicture]], Iterable[MarkedPicture]] = iter,
    drop: Callable[[Dropped], object] | None = None,
) -> Iterator[tuple[MarkedPicture, Pixels]]:
    """Each picture that can be used, its boxes within its edges, with its pixels.

    The pixels are uint8 ``[h, w]``, or ``[h, w, 3]`` in BGR, whole as they are stored: a DICOM
    frame is not cut to its region, because the boxes count in the whole. Files come in the order of
    their first picture, the frames of a file by their numbers, so that each file is decoded once.
    `drop` is told of each picture that cannot be read or used; without it the first raises
    BadInput.
    """
    by_file: dict[Path, list[MarkedPicture]] = defaultdict(list)
    for picture in pictures:
        by_file[picture.path].append(picture)
    ordered = [
        picture for own in by_file.values() for picture in sorted(own, key=lambda each: each.frame)
    ]
    path: Path | None = None
    read: _Reader | None = None
    with ExitStack() as stack:
        for picture in progress(ordered):
            why = ""
            try:
                if picture.path != path:
                    stack.close()
                    path, read = picture.path, None
                    read = _reader(path, len(by_file[path]), stack)
                if read is None:
                    raise BadInput(f"{path}: cannot be read")
                pixels = read(picture.frame)
                reason = check_marked(pixels, picture)
            except _NoFrame:
                reason = "missing"
            except BadInput as error:
                if drop is None:
                    raise
                read, reason, why = None, "unreadable", str(error)
            if reason is None:
                size = (pixels.shape[1], pixels.shape[0])
                boxes = tuple(within(box, size) for box in picture.boxes)
                yield replace(picture, boxes=boxes), pixels
            elif drop is None:
                raise BadInput(f"{frame_name(picture.path, picture.frame)}: {reason}")
            else:
                drop(Dropped(frame_name(picture.path, picture.frame), reason, why))


_Reader = Callable[[int], Pixels]
"""From the number of a frame to its pixels; numbers may not fall."""


class _NoFrame(BadInput):
    """The recording has ended before this frame."""


def _reader(path: Path, frames: int, stack: ExitStack) -> _Reader:
    """What reads so many frames of one file; `stack` closes it. Raises BadInput for a bad file."""
    kind = kind_of(path)
    if kind is Kind.VIDEO:
        return _Clip(stack.enter_context(Video(path)), path).read
    if kind is not Kind.DICOM:
        return lambda frame: _still(path, frame)
    PYDICOM.require()
    if frames == 1:
        return lambda frame: read_frame(path, frame)
    return _Clip(stack.enter_context(Dicom(path)), path).read


def _still(path: Path, frame: int) -> Pixels:
    if frame:
        raise _NoFrame(f"{path}: no frame {frame} in a still picture")
    return read_image(path)


class _Clip:
    """A recording that is read forwards, frame by frame."""

    def __init__(self, device: CaptureDevice, path: Path) -> None:
        self._device, self._path = device, path
        self._index = -1
        self._pixels: Pixels = np.zeros((0, 0), np.uint8)

    def read(self, frame: int) -> Pixels:
        """Frame `frame`, not before the last one. Raises BadInput where there is none."""
        while self._index < frame:
            try:
                self._pixels = self._device.read(0).pixels
            except EndOfRecording as error:
                raise _NoFrame(f"{self._path}: no frame {frame}, counted from 0") from error
            self._index += 1
        return self._pixels


def count_frames(path: Path) -> int:
    """The frames of a file: of a video as its container names them, or else as many as are decoded.

    Raises BadInput where it cannot be read.
    """
    kind = kind_of(path)
    if kind is Kind.DICOM:
        PYDICOM.require()
        return read_header(path).frames
    if kind is not Kind.VIDEO:
        return 1
    if (promised := promised_frames(path)) is not None:
        if promised > MAX_FRAMES:
            raise BadInput(f"{path}: a header of {promised} frames; at most {MAX_FRAMES:,}")
        return promised
    count = 0
    with Video(path) as video:
        while True:
            try:
                video.read(0)
            except EndOfRecording:
                return count
            count += 1
