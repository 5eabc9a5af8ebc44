"""A sink: the one method that takes results. `edge_runtime.sinks.open` opens one by URI."""

from typing import Protocol

import numpy as np

from devices import Pixels
from edge_runtime.results.result import Result

NO_PIXELS: Pixels = np.zeros((1, 1), np.uint8)
"""Stands for the screen where a sink does not want it."""


class Sink(Protocol):
    """Something that takes every result of a session."""

    wants_pixels: bool
    """Whether it needs the screen that a result belongs to."""
    latest_only: bool
    """Whether only the newest result of a live session matters to it, as to a display."""

    def write(self, result: Result, pixels: Pixels) -> None:
        """Takes one result; `pixels` may be read, not changed.

        Whatever it raises ends a recording's session. A live session goes on while another sink
        still works.
        """
