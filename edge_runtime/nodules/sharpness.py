"""How sharp the picture of a nodule is: a frame that motion has blurred counts less."""

import math

import cv2

from devices import Box, Pixels

SIDE = 64
"""Pixels a side of the reduced picture: sharpness is that of detail of 1/64 of the box, whatever
the size of the screen."""
NOISE_VARIANCE = 4.0
"""Squared grey levels that count as noise, so that a flat picture is not sharp."""
WHITE_NOISE_GAIN = 20.0
"""Variance of the Laplacian of white noise over that of the noise: 4² + 4 · 1²."""


def sharpness(pixels: Pixels, box: Box) -> float:
    """The sharpness inside the box, from 0 for a flat picture to 1 for white noise.

    It is the root of the variance of the Laplacian over that of the picture, so that the gain of
    the scanner does not matter: Pech-Pacheco and others, "Diatom autofocusing in brightfield
    microscopy: a comparative study", ICPR 2000; LAP4 in Pertuz and others, "Analysis of focus
    measure operators for shape-from-focus", Pattern Recognition 46(5), 2013. A box without a pixel
    on the screen has 0.
    """
    x, y, w, h = box
    inside = pixels[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)]
    if inside.size == 0:
        return 0.0
    channel = inside if inside.ndim == 2 else cv2.extractChannel(inside, 1)
    small = cv2.resize(channel, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    _, contrast = cv2.meanStdDev(small)
    _, detail = cv2.meanStdDev(cv2.Laplacian(small, cv2.CV_16S))
    variance = float(contrast[0, 0]) ** 2 + NOISE_VARIANCE
    return min(1.0, float(detail[0, 0]) / math.sqrt(WHITE_NOISE_GAIN * variance))
