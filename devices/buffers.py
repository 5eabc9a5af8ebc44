"""Arrays for pixels that are used again, so that a running session asks for no more memory."""

import sys

import numpy as np
from numpy.typing import NDArray

MAX_BUFFERS = 24
"""Arrays that are kept: more than a session has under way at once, its slow sinks included."""


class Buffers:
    """uint8 arrays of one shape at a time, each given out again once nobody holds it any more.

    Who holds an array is what Python counts anyway, views of it included; so nothing has to be
    given back, and a frame that somebody keeps is never painted over.
    """

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._buffers: list[NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of `shape` with whatever was in it before. For one thread."""
        if shape != self._shape:
            self._shape, self._buffers = shape, []
        for buffer in self._buffers:
            if sys.getrefcount(buffer) <= _NOBODY:
                return buffer
        buffer = np.empty(shape, np.uint8)
        if len(self._buffers) < MAX_BUFFERS:
            self._buffers.append(buffer)
        return buffer


def _references() -> int:
    """What Python counts for an array that only such a list holds, asked in such a loop."""
    for buffer in [np.empty(1, np.uint8)]:
        return sys.getrefcount(buffer)
    raise AssertionError


_NOBODY = _references()
