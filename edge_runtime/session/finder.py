"""Finds the nodules of a picture, follows them, and classifies each; for the inference thread."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from devices import Box, Frame
from devices.buffers import Buffers
from edge_runtime.models.classifier import Classifier, Prediction
from edge_runtime.models.locator import Locator
from edge_runtime.nodules.motion import Motion
from edge_runtime.nodules.sharpness import sharpness
from edge_runtime.nodules.tracking import (
    NO_TRACKS,
    Detection,
    Tracks,
    add_marked_track,
    step,
    visible,
)


@dataclass(frozen=True)
class FoundNodule:
    """One nodule in one frame, with the answer of the classifier."""

    track: int
    """The number of the nodule; counts from 1."""
    box: Box
    """Pixels of the screen."""
    window: Box
    """The part of the screen in the tensor of the classifier."""
    score: float
    """How sure the locator is of the nodule, from 0 to 1: of a moving picture `Track.score`, of a
    still the score of the detection; 1 where somebody marked the nodule."""
    sharpness: float
    """From 0 to 1; see `edge_runtime.nodules.sharpness`."""
    prediction: Prediction


class Finder:
    """The locator of a bundle, and the tracks of one session."""

    def __init__(self, locator: Locator, threads: int | None) -> None:
        self._locator, self._threads = locator, threads
        self._tracks = NO_TRACKS
        self._screen: tuple[int, ...] = ()
        """Height and width of the last screen."""
        self._before: tuple[NDArray[np.uint8], Box] | None = None
        """Tensor and window of the frame before."""
        self._marked: tuple[int, Box | None] | None = None
        """`region_changes` and `roi` of the last frame; None before the first."""
        self._tensors, self._grays = Buffers(), Buffers()

    def reopen(self) -> None:
        """Opens the locator once more: a thread that hangs keeps the interpreter."""
        self._locator = self._locator.clone(self._threads)

    def open_second(self) -> Locator:
        """A second locator, with one thread, to help the first."""
        return self._locator.clone(threads=1)

    def find(
        self,
        frame: Frame,
        tensor: NDArray[np.uint8],
        window: Box,
        classifier: Classifier,
        region_changes: int,
        roi: Box | None = None,
        detections: Sequence[Detection] | None = None,
    ) -> tuple[FoundNodule, ...]:
        """The nodules in a frame, by track.

        `tensor` is the picture as the locator takes it, and `window` its part of the screen. Tracks
        begin anew, from 1, where `region_changes` or `roi` differs from that of the frame before;
        see `PreparedFrame`. The first track is then the nodule that was marked in `roi`, if any.
        `detections` are those of the tensor, where another locator has found them already.
        Raises RuntimeError where inference fails.
        """
        if self._marked != (region_changes, roi):
            self._marked, self._tracks, self._before = (region_changes, roi), NO_TRACKS, None
            self._screen = frame.pixels.shape[:2]
            if roi is not None and frame.timestamp is not None:
                self._tracks = add_marked_track(NO_TRACKS, roi, frame.timestamp)
        if detections is None:
            detections = self._locator.locate(tensor, window)
        candidates = (
            self._surest(detections)
            if frame.timestamp is None
            else self._follow(
                detections, frame.timestamp, frame.pixels.shape[:2], self._motion(tensor, window)
            )
        )
        nodules = [
            self._classify(frame, number, detection, classifier) for number, detection in candidates
        ]
        return tuple(nodule for nodule in nodules if nodule is not None)

    def _surest(self, detections: Sequence[Detection]) -> Iterable[tuple[int, Detection]]:
        """The nodules of a still: every detection that a track of its own would show."""
        policy = self._locator.stage.tracking
        sure = [each for each in detections if each.score >= policy.still_score]
        return enumerate(sure[: policy.max_nodules], start=1)

    def _follow(
        self,
        detections: Sequence[Detection],
        at: float,
        screen: tuple[int, ...],
        motion: Motion | None,
    ) -> Iterable[tuple[int, Detection]]:
        """The nodules of a frame at `at` seconds. On a screen of another size all tracks end."""
        policy = self._locator.stage.tracking
        if screen != self._screen:
            self._screen = screen
            self._tracks = Tracks((), self._tracks.next_number, self._tracks.at)
        self._tracks = step(self._tracks, detections, at, policy, motion)
        for track in visible(self._tracks, policy):
            yield track.number, Detection(track.box, track.score)

    def _motion(self, tensor: NDArray[np.uint8], window: Box) -> Motion | None:
        """From the frame before to this one; None where they show different parts of the screen."""
        before, self._before = self._before, (tensor, window)
        if before is None or before[1] != window:
            return None
        return Motion(before[0][0, :, :, 0], tensor[0, :, :, 0], window)

    def _classify(
        self, frame: Frame, number: int, detection: Detection, classifier: Classifier
    ) -> FoundNodule | None:
        """The nodule of a detection; None where no pixel of the box lies on the screen."""
        pixels = frame.pixels
        inside = within(detection.box, pixels.shape[1], pixels.shape[0])
        if inside is None:
            return None
        preprocessing = classifier.preprocessing
        side = preprocessing.side
        tensor = preprocessing(pixels, inside, self._tensors.take((1, side, side, 1)), self._grays)
        return FoundNodule(
            number,
            inside,
            preprocessing.window(pixels.shape[1], pixels.shape[0], inside),
            detection.score,
            sharpness(pixels, inside),
            classifier.predict(tensor),
        )


def within(box: Box, width: int, height: int) -> Box | None:
    """The part of a box on a screen of that size; None where there is none."""
    x, y = max(0, box.x), max(0, box.y)
    w, h = min(width, box.x + box.w) - x, min(height, box.y + box.h) - y
    return Box(x, y, w, h) if min(w, h) >= 1 else None
