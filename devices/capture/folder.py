"""A folder of still images, or one of them: every picture in order of its file's name."""

import time
from pathlib import Path

from devices.capture import DICOM, IMAGES
from devices.capture.dicom import Dicom, is_dicom
from devices.capture.image import read_image
from devices.errors import BadInput, EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame, Pixels


class ImageFolder(CaptureDevice):
    """Stills: each stands alone, so a frame of them has no timestamp.

    So do the frames of a DICOM file among them: the next file is another recording.
    """

    live = False
    fps = 1.0

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Lists the images of folder `path`, or takes the one image `path`.

        Raises BadInput where there is none.
        """
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        self._paths = [item for item in inside if item.suffix.lower() in IMAGES | DICOM]
        if not self._paths:
            raise BadInput(f"{path}: no image in this folder ({', '.join(sorted(IMAGES))})")
        self._clock = clock
        self._clip: Dicom | None = None
        self._file = self._index = 0

    def close(self) -> None:
        """Closes the file that is being read."""
        if self._clip is not None:
            self._clip.close()

    def read(self, timeout: float) -> Frame:
        """Returns the next picture; see `CaptureDevice.read`. Raises BadInput for a damaged one."""
        pixels = self._next_of_clip(timeout)
        while pixels is None:
            if self._file == len(self._paths):
                raise EndOfRecording("the last image has been read")
            path, self._file = self._paths[self._file], self._file + 1
            if is_dicom(path):
                self._clip = Dicom(path, self._clock)
                pixels = self._next_of_clip(timeout)
            else:
                pixels = read_image(path)
        index, self._index = self._index, self._index + 1
        return Frame(pixels, self._clock(), index)

    def _next_of_clip(self, timeout: float) -> Pixels | None:
        """The next frame of the DICOM file that is being read; None where there is none."""
        if self._clip is None:
            return None
        try:
            return self._clip.read(timeout).pixels
        except EndOfRecording:
            self._clip.close()
            self._clip = None
            return None
