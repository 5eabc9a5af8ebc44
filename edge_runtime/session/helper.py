"""A second classifier: the capturing thread infers frames of a long recording, too.

It does so where the inference thread is behind, so that both cores are busy.
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
"""Frames of a recording after which a second interpreter pays, which takes a tenth of a second to
open."""
MIN_FRAMES_WAITING = RECORDING_CAPACITY - 1
"""So many frames wait when the capturing thread classifies one itself: it would soon have to wait
for room."""


class Helper:
    """Classifies a frame for the inference thread; used by the capturing thread alone."""

    def __init__(self, chain: FallbackChain) -> None:
        self._chain = chain
        self._cores = len(os.sched_getaffinity(0))
        self._task: tuple[PreparedFrame, float] | None = None
        """The frame at work, and the seconds allowed for it."""
        self._watchdog = Watchdog()
        self._opened: tuple[Classifier, Classifier | None] | None = None
        """The first classifier, and the second one that was opened for it."""

    def predict(
        self, prepared: PreparedFrame, first: Classifier, slot: FrameSlot[Any]
    ) -> PreparedFrame:
        """Returns the frame, with its prediction if the inference thread has enough to do.

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
            if self._opened is None or self._opened[0] is not first:
                self._opened, self._task = (first, None), (prepared, watchdog.OPENING_TIMEOUT)
                self._opened = first, self._chain.open_second()
            if (second := self._opened[1]) is None:
                return prepared
            self._task = prepared, watchdog.INFERENCE_TIMEOUT
            return replace(prepared, helper_prediction=(first, second.predict(prepared.tensor)))
        except (SonoliteError, RuntimeError, MemoryError):
            return prepared  # this only helps; the inference thread finds out what is wrong
        finally:
            self._task = None

    def hangs(self, now: float) -> bool:
        """Whether it hangs. For the thread that watches; `now` as for `Watchdog.waited`."""
        self._watchdog.task = task = self._task
        waited = self._watchdog.waited(now)
        return task is not None and waited > task[1]
