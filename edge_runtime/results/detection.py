"""A detection: what a locator answers, and what tracks are made of."""

from typing import NamedTuple

from devices import Box


class Detection(NamedTuple):
    """A box in one frame that may show a nodule."""

    box: Box
    """Pixels of the screen."""
    score: float
    """How sure the detection is, from 0 to 1."""
