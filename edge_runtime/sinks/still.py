"""A single picture with its result drawn in."""

from pathlib import Path

import cv2

from devices import BadInput, Pixels
from edge_runtime.results.result import Result
from edge_runtime.sinks.overlay import draw_result

STILL_SUFFIXES = (".png", ".jpg")


class OverlayStill:
    """Writes the one screen of a still with the result drawn in."""

    wants_pixels, latest_only = True, False

    def __init__(self, path: Path, part: Path, evidence: bool) -> None:
        """Writes to `part`; the user called it `path`. `evidence` as for `draw_result`."""
        self._path, self._part, self._evidence = path, part, evidence
        self._written = False

    def write(self, result: Result, pixels: Pixels) -> None:
        """Writes the screen; see `Sink.write`. Raises BadInput for a second one."""
        if result.frame is None:
            return
        if self._written:
            raise BadInput(
                f"--save {self._path}: the source has more than one picture; "
                "save them as .mp4 or .avi"
            )
        screen = draw_result(pixels, result, self._evidence)
        ok, coded = cv2.imencode(self._part.suffix, screen)
        if not ok:
            raise BadInput(f"--save {self._path}: the picture cannot be written")
        self._part.write_bytes(coded.tobytes())
        self._written = True

    def finish(self) -> None:
        """Raises BadInput where nothing was written."""
        if not self._written:
            raise BadInput(f"--save {self._path}: no frame was read, so nothing is saved")
