"""A second classifier, with which the capturing thread helps in a long recording.

The capturing thread classifies a frame where the inference thread is behind, so that both cores are
busy.
"""

import os
from dataclasses import replace
from typing import Any

from devices import SonoliteError
from edge_runtime.models import watchdog
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import Classifier
from edge_runtime.models.watchdog import Watchdog
from edge_runtime.session.frame_slot import RECORDING_CAPACITY, FrameSlot
from edge_runtime.session.prepare import PreparedFrame

MIN_FRAMES_READ = 240
"""Frames of a recording before a second interpreter is opened, which takes a tenth of a second."""
MIN_FRAMES_WAITING = RECORDING_CAPACITY - 1
"""Frames in the slot from which on the capturing thread classifies: it would soon wait for room."""


class Helper:
    """Classifies frames in the place of the inference thread; for the capturing thread alone."""

    def __init__(self, chain: FallbackChain) -> None:
        self._chain = chain
        self._cores = len(os.sched_getaffinity(0))
        self._task: tuple[PreparedFrame, float] | None = None
        """The frame that is being classified, and the seconds allowed."""
        self._watchdog = Watchdog()
        self._opened: tuple[Classifier, Classifier | None] | None = None
        """The classifier of the inference thread, and the second classifier opened for it."""

    def predict(
        self, prepared: PreparedFrame, first: Classifier, slot: FrameSlot[Any]
    ) -> PreparedFrame:
        """Returns the frame, with a prediction if the inference thread is behind.

        `first` is the classifier of the inference thread.
        """
        if (
            prepared.tensor is None
            or prepared.searched
            or self._cores == 1
            or slot.read < MIN_FRAMES_READ
            or slot.waiting < MIN_FRAMES_WAITING
        ):
            return prepared
        try:
            if self._opened is None or self._opened[0] is not first:
                self._opened, self._task = (first, None), (prepared, watchdog.OPENING_TIMEOUT)
                self._opened = first, self._chain.open_second()
            if (second := self._opened[1]) is None:
                return prepared
            self._task = prepared, watchdog.INFERENCE_TIMEOUT
            return replace(prepared, helper_prediction=(first, second.predict(prepared.tensor)))
        except (SonoliteError, RuntimeError, MemoryError):
            return prepared  # the inference thread classifies the frame then, and reports the error
        finally:
            self._task = None

    def hangs(self, now: float) -> bool:
        """Whether the helper hangs. For the watching thread; `now` as for `Watchdog.waited`."""
        self._watchdog.task = task = self._task
        waited = self._watchdog.waited(now)
        return task is not None and waited > task[1]
