"""From a frame to the tensor for the model, or to the reason why the frame is withheld."""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Clock, Frame, Pixels
from devices.buffers import Buffers
from edge_runtime.bundle.preprocess import Preprocessing
from edge_runtime.models.classifier import Classifier, Prediction
from edge_runtime.results.detection import Detection
from edge_runtime.results.states import Event
from edge_runtime.screen.flaws import Flaw
from edge_runtime.screen.region import Region
from edge_runtime.screen.stillness import Stillness


class FrameCheck:
    """Whether a frame may be classified: one thread sets the outcome, another waits for it."""

    def __init__(self) -> None:
        self.event: Event | None = None
        """Why the frame is withheld."""
        self.flaw: Flaw | None = None
        """The flaw of the picture, where a flaw is the reason."""
        self._ready = threading.Lock()
        self._ready.acquire()

    def settle(self, event: Event | None, flaw: Flaw | None) -> None:
        """Sets the outcome, once."""
        self.event, self.flaw = event, flaw
        self._ready.release()

    def wait(self) -> None:
        """Waits for the outcome."""
        with self._ready:
            pass


@dataclass(frozen=True)
class PreparedFrame:
    """One frame, ready for the model or withheld from it."""

    frame: Frame
    box: Box | None
    """The part of the screen to examine, in pixels; None where there is no picture."""
    window: Box | None
    """The part of the screen in the tensor, in pixels; it may overhang the screen."""
    tensor: NDArray[np.uint8] | None
    """``[1, side, side, 1]``, not used again as long as it is referred to; None without a box."""
    unmarked: bool
    """Whether nothing is classified because no nodule is marked."""
    searched: bool
    """Whether the tensor is for the locator, which looks for nodules in the whole picture."""
    roi: Box | None
    """The region of interest, in pixels; None where nobody marked one."""
    follow: bool
    """Whether the box follows its nodule from the region of interest on."""
    region_changes: int
    """How often the region of interest had changed before this frame; see `Region.changes`."""
    began: float
    """When work on the frame began, monotonic seconds."""
    ended: float
    """When the tensor was ready."""
    check: FrameCheck = field(default_factory=FrameCheck)
    late: bool = False
    """Of a record: whether the recorded result was older than the budget."""
    helper_prediction: tuple[Classifier, Prediction] | None = None
    """The classifier of the inference thread, and the prediction of the second classifier that
    helps it."""
    helper_detections: list[Detection] | None = None
    """The detections of the second locator that helps the inference thread."""


class Preparer:
    """Prepares the frames of one device in their order; for one thread."""

    def __init__(
        self,
        live: bool,
        region: Region,
        preprocessing: Preprocessing,
        clock: Clock = time.monotonic,
        search: Preprocessing | None = None,
    ) -> None:
        """`preprocessing` is that of the classifier, and `search` that of the locator, which gets
        the picture where no nodule is marked.
        """
        self._live, self._region, self._clock = live, region, clock
        self._preprocessing, self._search = preprocessing, search
        self._tensors, self._grays = Buffers(), Buffers()
        self._stillness = Stillness()
        self._region_changes = 0
        """Those of the last picture that was checked."""
        self._located = False
        self._recording = 0

    def prepare(self, frame: Frame) -> PreparedFrame:
        """Returns the prepared `frame`; the caller must call `check` next.

        Raises BadInput for a region that lay on no screen so far.
        """
        began = self._clock()
        box = self._locate(frame)
        given = self._region.fixed_roi is not None or self._region.whole
        search = None if given else self._search
        unmarked = box is not None and not given and search is None
        window, tensor = None, None
        if box is not None and not unmarked:
            window, tensor = self._tensor(frame.pixels, box, search or self._preprocessing)
        return PreparedFrame(
            frame,
            box,
            window,
            tensor,
            unmarked,
            search is not None,
            self._region.roi,
            self._region.follow,
            self._region.changes,
            began,
            self._clock(),
        )

    def mark(self, roi: Box | None, follow: bool) -> None:
        """Examines another region of interest, or none, from the next frame on; see `Region.mark`.

        Raises BadInput where the region does not lie on the last screen.
        """
        self._region.mark(roi, self._region.screen, follow)

    def check(self, prepared: PreparedFrame) -> None:
        """Checks the picture. The model may run meanwhile, because few frames are withheld."""
        event: Event | None = Event.UNUSABLE
        flaw: Flaw | None = None
        try:
            flaw = self._region.flaw(prepared.frame.pixels, prepared.box)
            if prepared.box is not None and flaw is None:
                event = Event.REPEATED if self._repeats(prepared, prepared.box) else None
        finally:
            prepared.check.settle(event, flaw)

    def forget(self) -> None:
        """Begins again after the device was lost: the next screen may be of another device."""
        self._region.forget()

    def _locate(self, frame: Frame) -> Box | None:
        """The box to classify, None where there is no picture.

        Raises BadInput for a region that does not lie on the screen. A live screen that becomes too
        small later, as that of a grabber without a signal, counts as a screen without a picture.
        """
        if self._recording != frame.recording:
            self._recording = frame.recording
            self._region.begin_recording(frame.region)
        try:
            box = self._region.locate(frame.pixels, keep=frame.timestamp is not None)
        except BadInput:
            if not self._live or not self._located:
                raise
            return None
        self._located = True
        return box

    def _tensor(
        self, pixels: Pixels, box: Box, preprocessing: Preprocessing
    ) -> tuple[Box, NDArray[np.uint8]]:
        """The window of the screen, and its tensor.

        The window is the user's region with context, else the whole picture.
        """
        around = self._region.fixed_roi if preprocessing.crops else None
        x, y = 0, 0
        if around is None:
            x, y = box.x, box.y
            pixels = self._region.cut(pixels, box)
        height, width = pixels.shape[:2]
        left, top, w, h = preprocessing.window(width, height, around)
        room = self._tensors.take((1, preprocessing.side, preprocessing.side, 1))
        tensor = preprocessing(pixels, around, room, self._grays)
        return Box(x + left, y + top, w, h), tensor

    def _repeats(self, prepared: PreparedFrame, box: Box) -> bool:
        """Whether a live device shows the same picture in the box again and again."""
        if not self._live:
            return False
        frame = prepared.frame
        cells = self._region.cell_means(frame.pixels, box)
        elsewhere = self._region_changes != prepared.region_changes
        self._region_changes = prepared.region_changes
        return self._stillness.is_frozen(cells, frame.captured_at, elsewhere)
