"""From detections in pictures to the operating point and the figures of clips."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from devices import Box
from edge_runtime.bundle.policies import TrackingPolicy
from edge_runtime.bundle.preprocess import parse
from tests.devices.capture.dicom_files import write_dicom
from train.locator.dataset import LocatorPicture, square_of
from train.locator.measurement import (
    FRAMES_A_SECOND,
    Clip,
    choose_scores,
    clips_of,
    detect,
    follow,
    measure,
)
from train.marked import MarkedPicture

POLICY = TrackingPolicy(
    start_score=0.5,
    keep_score=0.25,
    min_iou=0.2,
    confirm_seconds=0.0,
    confirm_hits=1,
    coast_seconds=0.01,
    lost_seconds=0.1,
    max_nodules=4,
)
BOX = Box(40, 60, 80, 40)
SIZE = (200, 160)
WINDOW = Box(0, -20, 200, 200)
NONE = np.zeros((0, 5), np.float32)


def frame(number: int, has: bool, path: Path = Path("clip.mp4")) -> LocatorPicture:
    boxes = (BOX,) if has else ()
    pixels = np.zeros((SIZE[1], SIZE[0]), np.uint8)
    marked = MarkedPicture(path, boxes, str(path), number)
    return LocatorPicture(marked, square_of(pixels, boxes, 64), WINDOW, "test", 0, True, False)


def sure(score: float) -> NDArray[np.float32]:
    """A detection of that box, as shares of the square about the picture."""
    x, y, w, h = BOX
    left, top = x / 200, (y + 20) / 200
    return np.array([[left, top, left + w / 200, top + h / 200, score]], np.float32)


def clip(frames: Sequence[tuple[bool, float]]) -> Clip:
    """Whether each frame has a nodule, and the score of the detection in it; 0 for none."""
    pictures = tuple(frame(number, has) for number, (has, _) in enumerate(frames))
    return Clip(pictures, tuple(sure(score) if score else NONE for _, score in frames), 20.0)


def test_boxes_are_followed_in_the_pixels_of_the_picture() -> None:
    frames = follow(clip([(True, 0.9), (True, 0.9)]), POLICY)
    x, y, w, h = BOX
    assert frames[0].shown[0].tolist() == pytest.approx([x, y, x + w, y + h], abs=1)
    assert frames[0].truth[0].tolist() == [x, y, x + w, y + h]
    assert [each.at for each in frames] == [0, 1 / 20]
    assert frames[0].tracks == frames[1].tracks


def test_below_the_score_nothing_is_shown() -> None:
    assert [len(each.shown) for each in follow(clip([(True, 0.4)] * 3), POLICY)] == [0, 0, 0]


def test_scores_are_chosen_that_show_the_nodule_and_no_empty_frame() -> None:
    frames = [(False, 0.3)] * 20 + [(True, 0.7)] * 20
    chosen = choose_scores([clip(frames)], POLICY, 0.05)
    assert 0.3 < chosen.still_score <= 0.7
    _, moving = measure(clip(frames).pictures, clip(frames).found, chosen)
    assert moving is not None
    assert (moving.found, moving.false) == (1, 0)


def test_a_mean_score_is_chosen_that_hides_what_flickers() -> None:
    """Every third of the empty frames is surer than the frames with the nodule."""
    policy = replace(POLICY, confirm_hits=3, coast_seconds=0.2, lost_seconds=0.5)
    frames = [(False, 0.9 if number % 3 == 0 else 0.0) for number in range(120)]
    frames += [(False, 0.0)] * 12 + [(True, 0.6)] * 60
    chosen = choose_scores([clip(frames)], policy, 0.05)
    assert chosen.show_score > 0
    _, moving = measure(clip(frames).pictures, clip(frames).found, chosen)
    assert moving is not None
    assert (moving.found or 0) > 0.8
    assert (moving.false or 0) <= 0.05


def test_where_no_scores_hold_the_fewest_false_frames_are_chosen() -> None:
    # One in four of the empty frames is as sure as can be.
    frames = [(False, 0.95 if number % 4 == 0 else 0.3) for number in range(20)]
    frames += [(True, 0.7)] * 20
    chosen = choose_scores([clip(frames)], POLICY, 0.05)
    assert chosen.still_score > 0.3


def test_without_clips_the_policy_stays() -> None:
    assert choose_scores([], POLICY, 0.05) == POLICY


@pytest.mark.parametrize("has", [True, False])
def test_clips_with_or_without_a_nodule_in_all_frames_are_measured(has: bool) -> None:
    all_alike = clip([(has, 0.6)] * 5)
    chosen = choose_scores([all_alike], POLICY, 0.05)
    if has:
        assert chosen.still_score <= 0.6
    else:
        assert chosen.still_score > 0.6


def test_pictures_of_one_file_are_a_clip_in_the_order_of_its_frames() -> None:
    pictures = [frame(number, False) for number in (2, 0, 1)]
    still = replace(frame(0, True, Path("a.png")), moving=False)
    scores = [sure(0.1 * (number + 1)) for number in (2, 0, 1, 5)]
    (found,) = clips_of([*pictures, still], scores)
    assert [its.marked.frame for its in found.pictures] == [0, 1, 2]
    assert [each[0, 4].item() for each in found.found] == pytest.approx([0.1, 0.2, 0.3])
    assert found.rate == FRAMES_A_SECOND


def test_the_rate_of_a_clip_is_that_of_its_file(marked_clips: Path, tmp_path: Path) -> None:
    dicom = write_dicom(
        tmp_path / "a.dcm", np.zeros((3, 90, 90), np.uint8), NumberOfFrames=3, FrameTime=40.0
    )
    for path, rate in ((marked_clips / "test.avi", 20.0), (dicom, 25.0)):
        pictures = [frame(number, False, path) for number in range(2)]
        (clip_,) = clips_of(pictures, [NONE, NONE])
        assert clip_.rate == pytest.approx(rate)


def test_pictures_alone_have_no_figures_of_clips() -> None:
    still = replace(frame(0, True), moving=False)
    alone, moving = measure([still], [sure(0.9)], POLICY)
    assert moving is None
    assert alone["AP50"].value == alone["recall"].value == 1


def test_the_network_sees_each_picture_as_a_square_of_its_side() -> None:
    seen = []

    def answered(tensors: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        seen.append(tensors.shape)
        score = np.zeros((len(tensors), 4, 4), np.float32)
        score[:, 1, 2] = 0.5
        return {"score": score, "sides": np.full((len(tensors), 4, 4, 4), 0.1, np.float32)}

    pictures = [frame(number, False) for number in range(40)]
    found = detect(answered, pictures, parse("gray|crop(context=1)|resize(32)"))
    assert seen == [(32, 32, 32, 1), (8, 32, 32, 1)]
    assert [len(each) for each in found] == [1] * 40
