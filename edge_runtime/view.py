"""From a frame to what the model sees of it, or to the reason why it is not shown to the model."""

import threading
import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Clock, Frame, Pixels
from devices.buffers import Buffers
from edge_runtime.classify import Classifier, Judgement
from edge_runtime.flaws import Flaw
from edge_runtime.preprocess import Preprocessing
from edge_runtime.sector import Region, differs
from edge_runtime.session import Event

FROZEN_AFTER = 1.0
"""Seconds of one and the same picture after which it counts as frozen."""


class Verdict:
    """Whether a view may be judged; told by one thread, awaited by another."""

    def __init__(self) -> None:
        self.event: Event | None = None
        """Why the view is withheld."""
        self.flaw: Flaw | None = None
        """What is wrong with its picture, where that is why."""
        self._known = threading.Lock()
        self._known.acquire()

    def tell(self, event: Event | None, flaw: Flaw | None) -> None:
        """Says it, once."""
        self.event, self.flaw = event, flaw
        self._known.release()

    def wait(self) -> None:
        """Waits until it is told."""
        with self._known:
            pass


@dataclass(frozen=True)
class View:
    """One frame, ready for the model or withheld from it."""

    frame: Frame
    box: Box | None
    """What is judged, in pixels of the screen; None where there is nothing to judge."""
    window: Box | None
    """What the tensor shows, in pixels of the screen, which it may overhang."""
    tensor: NDArray[np.uint8] | None
    """``[1, side, side, 1]``, nobody else's as long as it is held; None where there is no box."""
    began: float
    """When work on the frame began, monotonic seconds."""
    ended: float
    """When the tensor was ready."""
    verdict: Verdict = field(default_factory=Verdict)
    ahead: tuple[Classifier, Judgement] | None = None
    """What the capturing thread made of it in the judge's stead, and beside which classifier."""


class Viewer:
    """Makes the views of one device's frames, one after the other, for one thread."""

    def __init__(
        self,
        live: bool,
        region: Region,
        preprocessing: Preprocessing,
        clock: Clock = time.monotonic,
    ) -> None:
        self._live, self._region, self._clock = live, region, clock
        self._preprocessing = preprocessing
        side = preprocessing.side
        self._shape = (1, side, side, 1)
        self._tensors, self._grays = Buffers(), Buffers()
        self._last: NDArray[np.int16] | None = None
        self._last_change = 0.0
        self._seen = False

    def look(self, frame: Frame) -> View:
        """Returns the view of `frame`; `check` has to follow.

        Raises BadInput for a region that never lay on a screen.
        """
        began = self._clock()
        box = self._locate(frame)
        window, tensor = (None, None) if box is None else self._prepare(frame.pixels, box)
        return View(frame, box, window, tensor, began, self._clock())

    def check(self, view: View) -> None:
        """Tells the view's verdict. The model may be at work on it meanwhile: few are withheld."""
        event: Event | None = Event.UNUSABLE
        wrong: Flaw | None = None
        try:
            wrong = self._region.flaw(view.frame.pixels, view.box)
            if view.box is not None and wrong is None:
                event = Event.REPEATED if self._repeats(view.frame, view.box) else None
        finally:
            view.verdict.tell(event, wrong)

    def forget(self) -> None:
        """The device has gone: what comes next may be another one's screen."""
        self._region.forget()

    def _locate(self, frame: Frame) -> Box | None:
        """The box to judge, None where there is none.

        Raises BadInput for a region that does not lie on a screen; a live screen that became too
        small for it later, as a grabber's does without a signal, has no picture.
        """
        try:
            box = self._region.locate(frame.pixels, keep=frame.timestamp is not None)
        except BadInput:
            if not self._live or not self._seen:
                raise
            return None
        self._seen = True
        return box

    def _prepare(self, pixels: Pixels, box: Box) -> tuple[Box, NDArray[np.uint8]]:
        """The model's view: around the user's region with its context, else the picture whole."""
        around = self._region.roi if self._preprocessing.crops else None
        x, y = 0, 0
        if around is None:
            x, y = box.x, box.y
            pixels = self._region.cut(pixels, box)
        height, width = pixels.shape[:2]
        left, top, w, h = self._preprocessing.window(width, height, around)
        tensor = self._preprocessing(pixels, around, self._tensors.take(self._shape), self._grays)
        return Box(x + left, y + top, w, h), tensor

    def _repeats(self, frame: Frame, box: Box) -> bool:
        """Whether a live device has shown the same in the box for FROZEN_AFTER seconds."""
        if not self._live:
            return False
        seen = self._region.summarise(frame.pixels, box)
        if self._last is None or differs(self._last, seen):
            self._last, self._last_change = seen, frame.captured_at
        return frame.captured_at - self._last_change >= FROZEN_AFTER
