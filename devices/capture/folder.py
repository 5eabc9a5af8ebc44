"""A folder of still images, or one of them: every picture in the natural order of names."""

import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

from devices.capture.dicom import Dicom, is_dicom
from devices.capture.image import open_pages
from devices.capture.kinds import DICOM, IMAGES
from devices.capture.listing import list_pictures
from devices.errors import BadInput, EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame, Pixels


class ImageFolder(CaptureDevice):
    """Stills: each stands alone, so a frame of them has no timestamp.

    So do the frames of a DICOM file among them, and the pages of an image: the next file is another
    recording. Each is named, as `name.tif#2` where a file holds several; they count from 0.
    """

    live = False
    fps = 1.0

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Lists the images of folder `path`, or takes the one image `path`.

        Raises BadInput where there is none.
        """
        paths = list_pictures(path) if path.is_dir() else [path]
        if not paths:
            kinds = ", ".join(sorted(IMAGES | DICOM))
            raise BadInput(f"{path}: no image in this folder, and no DICOM file ({kinds})")
        self._clock = clock
        self._paths = iter(paths)
        self._pictures: Generator[tuple[Pixels, str], None, None] | None = None
        self._index = 0
        self.notes = self._notes = Counter[str]()

    def close(self) -> None:
        """Closes the file that is being read."""
        if self._pictures is not None:
            self._pictures.close()

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a file makes nobody wait
        """Returns the next picture; see `CaptureDevice.read`. Raises BadInput for a damaged one."""
        while (picture := next(self._pictures, None) if self._pictures else None) is None:
            path = next(self._paths, None)
            if path is None:
                raise EndOfRecording("the last image has been read")
            self._pictures = self._read_file(path)
        index, self._index = self._index, self._index + 1
        return Frame(picture[0], self._clock(), index, name=picture[1])

    def _read_file(self, path: Path) -> Generator[tuple[Pixels, str], None, None]:
        """Every picture of a file, with its name."""
        if not is_dicom(path):
            count, pages = open_pages(path)
            for page, pixels in enumerate(pages):
                yield pixels, _name(path, page, count)
            return
        with Dicom(path, self._clock) as clip:
            try:
                for page in range(clip.frames):
                    yield clip.read(0).pixels, _name(path, page, clip.frames)
            finally:
                self._notes.update(clip.notes.keys())


def _name(path: Path, page: int, pages: int) -> str:
    return path.name if pages == 1 else f"{path.name}#{page}"
