"""Arrays for pixels that are used again, so that a session needs no more memory over time."""

import sys

import numpy as np
from numpy.typing import NDArray

MAX_BUFFERS = 24
"""Arrays that are kept: more than a session with slow sinks uses at the same time."""


class Buffers:
    """uint8 arrays of one shape; an array is given out again when nobody holds it any more.

    Python counts the references to an array, with those of its views. So nobody has to give an
    array back, and a frame that somebody keeps is never overwritten.
    """

    def __init__(self) -> None:
        self._shape: tuple[int, ...] = ()
        self._buffers: list[NDArray[np.uint8]] = []

    def take(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of `shape` with arbitrary contents; for one thread."""
        if shape != self._shape:
            self._shape, self._buffers = shape, []
        for buffer in self._buffers:
            if sys.getrefcount(buffer) <= NOBODY:
                return buffer
        buffer = np.empty(shape, np.uint8)
        if len(self._buffers) < MAX_BUFFERS:
            self._buffers.append(buffer)
        return buffer


def _references() -> int:
    """The count of references to an array that only a list and this kind of loop hold."""
    for buffer in [np.empty(1, np.uint8)]:
        return sys.getrefcount(buffer)
    raise AssertionError


NOBODY = _references()
"""The count of an array that nobody holds, where a container and a variable name it."""
