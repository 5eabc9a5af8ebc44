"""Of a long recording the thread that captures judges frames too, where the judge is behind."""

import os
from dataclasses import replace
from typing import Any

from devices import SonoliteError
from edge_runtime import watched
from edge_runtime.classify import Classifier
from edge_runtime.slot import CAPACITY, Slot
from edge_runtime.view import View
from edge_runtime.watched import Watched
from edge_runtime.ways import Ways

LONG = 240
"""Frames of a recording after which a second interpreter pays, which takes a tenth of a second to
open."""
BEHIND = CAPACITY - 1
"""So many wait for the judge when the capturing thread judges one itself: it would soon have to
wait for room."""


class Ahead:
    """Judges a view in the judge's stead, for the thread that captures."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._cores = len(os.sched_getaffinity(0))
        self._busy: tuple[View, float] | None = None
        """What it is at, and the seconds allowed for it."""
        self._watched = Watched()
        self._helper: tuple[Classifier, Classifier | None] | None = None
        """What judges here, and beside which one."""

    def judge(self, view: View, beside: Classifier, slot: Slot[Any]) -> View:
        """Returns the view, judged if the judge, who computes with `beside`, has enough to do."""
        if view.tensor is None or self._cores == 1 or slot.read < LONG or slot.waiting < BEHIND:
            return view
        try:
            if self._helper is None or self._helper[0] is not beside:
                self._helper, self._busy = (beside, None), (view, watched.OPENS_WITHIN)
                self._helper = beside, self._ways.beside()
            if (helper := self._helper[1]) is None:
                return view
            self._busy = view, watched.HUNG_AFTER
            return replace(view, ahead=(beside, helper.judge(view.tensor)))
        except (SonoliteError, RuntimeError, MemoryError):
            return view  # this only helps; the judge finds out whether anything is to be done
        finally:
            self._busy = None

    def hangs(self, now: float) -> bool:
        """Whether it hangs. For one watcher; `now` as for `Watched.waited`."""
        self._watched.task = busy = self._busy
        waited = self._watched.waited(now)
        return busy is not None and waited > busy[1]
