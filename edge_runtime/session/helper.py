"""A second classifier and a second locator, with which the capturing thread helps.

In a long recording it classifies a frame, or locates the nodules in it, where the inference thread
is behind, so that both cores are busy. Tracks are left to the inference thread.
"""

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from devices import SonoliteError
from edge_runtime.models import watchdog
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import Classifier
from edge_runtime.models.watchdog import Watchdog
from edge_runtime.session.finder import Finder
from edge_runtime.session.frame_slot import RECORDING_CAPACITY, FrameSlot
from edge_runtime.session.prepare import PreparedFrame

if TYPE_CHECKING:
    from edge_runtime.models.locator import Locator

MIN_FRAMES_READ = 240
"""Frames of a recording before a second interpreter is opened, which takes a tenth of a second."""
MIN_FRAMES_WAITING = RECORDING_CAPACITY - 1
"""Frames in the slot from which on the capturing thread helps: it would soon wait for room."""


class Helper:
    """Does work of the inference thread; for the capturing thread alone."""

    def __init__(self, chain: FallbackChain, finder: Finder | None) -> None:
        self._chain, self._finder = chain, finder
        self._cores = len(os.sched_getaffinity(0))
        self._task: tuple[PreparedFrame, float] | None = None
        """The frame that is worked on, and the seconds allowed."""
        self._watchdog = Watchdog()
        self._opened: tuple[Classifier, Classifier | None] | None = None
        """The classifier of the inference thread, and the second classifier opened for it."""
        self._locator: Locator | None = None
        self._tried = False
        """Whether the second locator was opened, or could not be."""

    def help(
        self, prepared: PreparedFrame, first: Classifier, slot: FrameSlot[Any]
    ) -> PreparedFrame:
        """Returns the frame, with a prediction or detections if the inference thread is behind.

        `first` is the classifier of the inference thread.
        """
        if (
            prepared.tensor is None
            or self._cores == 1
            or slot.read < MIN_FRAMES_READ
            or slot.waiting < MIN_FRAMES_WAITING
        ):
            return prepared
        try:
            if prepared.searched:
                return self._locate(prepared)
            return self._predict(prepared, first)
        except (SonoliteError, RuntimeError, MemoryError):
            return prepared  # the inference thread does it then, and reports the error
        finally:
            self._task = None

    def _predict(self, prepared: PreparedFrame, first: Classifier) -> PreparedFrame:
        assert prepared.tensor is not None
        if self._opened is None or self._opened[0] is not first:
            self._opened, self._task = (first, None), (prepared, watchdog.OPENING_TIMEOUT)
            self._opened = first, self._chain.open_second()
        if (second := self._opened[1]) is None:
            return prepared
        self._task = prepared, watchdog.INFERENCE_TIMEOUT
        return replace(prepared, helper_prediction=(first, second.predict(prepared.tensor)))

    def _locate(self, prepared: PreparedFrame) -> PreparedFrame:
        assert prepared.tensor is not None
        assert prepared.window is not None
        if not self._tried and self._finder is not None:
            self._tried, self._task = True, (prepared, watchdog.OPENING_TIMEOUT)
            self._locator = self._finder.open_second()
        if self._locator is None:
            return prepared
        self._task = prepared, watchdog.INFERENCE_TIMEOUT
        detections = self._locator.locate(prepared.tensor, prepared.window)
        return replace(prepared, helper_detections=detections)

    def hangs(self, now: float) -> bool:
        """Whether the helper hangs. For the watching thread; `now` as for `Watchdog.waited`."""
        self._watchdog.task = task = self._task
        waited = self._watchdog.waited(now)
        return task is not None and waited > task[1]
