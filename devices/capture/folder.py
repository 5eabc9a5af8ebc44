"""A folder of still images, or one of them: every image in order of its name."""

import time
from pathlib import Path

from devices.capture.image import SUFFIXES, read_image
from devices.errors import BadInput, EndOfRecording
from devices.frame import CaptureDevice, Clock, Frame


class ImageFolder(CaptureDevice):
    """Stills: each stands alone, so a frame of them has no timestamp."""

    live = False
    fps = 1.0

    def __init__(self, path: Path, clock: Clock = time.monotonic) -> None:
        """Lists the images of folder `path`, or takes the one image `path`.

        Raises BadInput where there is none.
        """
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        self._paths = [item for item in inside if item.suffix.lower() in SUFFIXES]
        if not self._paths:
            raise BadInput(f"{path}: no image in this folder ({', '.join(sorted(SUFFIXES))})")
        self._clock = clock
        self._index = 0

    def read(self, timeout: float) -> Frame:  # noqa: ARG002  a file makes nobody wait
        """Returns the next image; see `CaptureDevice.read`. Raises BadInput for a damaged one."""
        if self._index == len(self._paths):
            raise EndOfRecording("the last image has been read")
        index, self._index = self._index, self._index + 1
        return Frame(read_image(self._paths[index]), self._clock(), index)
