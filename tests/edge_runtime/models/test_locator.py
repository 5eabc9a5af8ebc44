"""The locator of a bundle: proved by its golden frames, and its boxes are pixels of the screen."""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from devices import BadInput, Box, Pixels
from devices.compute import CpuBackend
from edge_runtime.bundle.archive import Bundle, list_members, open_bundle, write_bundle
from edge_runtime.bundle.golden import read_arrays, read_golden
from edge_runtime.bundle.manifest import ClassifierStage, LocatorStage
from edge_runtime.bundle.preprocess import parse
from edge_runtime.bundle.signing import read_signing_key
from edge_runtime.models.boxes import MIN_PEAK_SCORE
from edge_runtime.models.locator import Locator, locator_tensors
from tests.edge_runtime.models.broken import answering


@pytest.fixture(scope="module")
def finder(finder_path: Path) -> Bundle:
    return open_bundle(finder_path)


@pytest.fixture(scope="module")
def stage(finder: Bundle) -> LocatorStage:
    assert finder.manifest.locator is not None
    return finder.manifest.locator


@pytest.fixture(scope="module")
def locator(finder: Bundle, stage: LocatorStage) -> Locator:
    return Locator(finder, stage, threads=1)


def changed(
    finder: Bundle, path: Path, members: Mapping[str, bytes], stage: LocatorStage | None = None
) -> Bundle:
    """The bundle with other members, and another locator stage where one is given."""
    manifest = finder.manifest
    contents = {name: finder.read(name) for name in manifest.members} | dict(members)
    stages = [
        each if isinstance(each, ClassifierStage) or stage is None else stage
        for each in manifest.stages
    ]
    manifest = replace(manifest, stages=tuple(stages), members=list_members(contents))
    return write_bundle(path, manifest, contents, read_signing_key(None))


def scores(values: np.ndarray) -> bytes:
    written = io.BytesIO()
    np.savez_compressed(written, score=values)
    return written.getvalue()


def refusal(bundle: Bundle) -> str:
    """Why the locator of a bundle is not opened, in one line."""
    assert bundle.manifest.locator is not None
    with pytest.raises(BadInput) as refused:
        Locator(bundle, bundle.manifest.locator, threads=1)
    line = str(refused.value)
    assert "\n" not in line
    return line


def test_it_opens_with_the_variant_that_is_there(locator: Locator) -> None:
    assert locator.variant == "int8"
    assert locator.preprocessing.side == 64


def test_a_clone_answers_as_the_first(locator: Locator, screen: Pixels) -> None:
    tensor = locator.preprocessing(screen)
    window = Box(0, 0, 100, 100)
    assert locator.clone(1).locate(tensor, window) == locator.locate(tensor, window)


def test_detections_lie_within_the_window(locator: Locator, screen: Pixels) -> None:
    height, width = screen.shape[:2]
    window = locator.preprocessing.window(width, height, None)
    found = locator.locate(locator.preprocessing(screen), window)
    assert found
    for box, score in found:
        assert MIN_PEAK_SCORE <= score <= 1
        assert window.x <= box.x < box.x + box.w <= window.x + window.w
        assert window.y <= box.y < box.y + box.h <= window.y + window.h
    assert [its.score for its in found] == sorted((its.score for its in found), reverse=True)


def test_detections_move_and_grow_with_the_window(locator: Locator, screen: Pixels) -> None:
    tensor = locator.preprocessing(screen)
    small = locator.locate(tensor, Box(0, 0, 64, 64))
    large = locator.locate(tensor, Box(1000, 500, 640, 640))
    assert [its.score for its in small] == [its.score for its in large]
    for one, other in zip(small, large, strict=True):
        expected = (1000 + 10 * one.box.x, 500 + 10 * one.box.y, 10 * one.box.w, 10 * one.box.h)
        # A pixel of the small window is ten of the large one.
        assert tuple(other.box) == pytest.approx(expected, abs=11)


def test_a_box_has_at_least_a_pixel(locator: Locator, screen: Pixels) -> None:
    for box, _ in locator.locate(locator.preprocessing(screen), Box(5, 5, 1, 1)):
        assert min(box.w, box.h) >= 1


def test_golden_tensors_are_of_whole_frames(finder: Bundle) -> None:
    frames = read_golden(finder).frames
    tensors = locator_tensors(frames, parse("gray|crop(context=1)|resize(32)"))
    assert tensors.shape == (len(frames), 32, 32, 1)


def test_changed_golden_scores_are_refused(
    finder: Bundle, stage: LocatorStage, tmp_path: Path
) -> None:
    golden = read_arrays(finder, stage.golden)["score"]
    off = golden + np.float32(stage.golden_tolerance["int8"] + 0.2)
    line = refusal(changed(finder, tmp_path / "a.sonolite", {stage.golden: scores(off)}))
    assert "int8 of the locator answers the golden frames on this machine differently" in line


@pytest.mark.parametrize("kind", ["shape", "type", "nan", "none"])
def test_golden_scores_of_something_else_are_refused(
    finder: Bundle, stage: LocatorStage, tmp_path: Path, kind: str
) -> None:
    golden = read_arrays(finder, stage.golden)["score"]
    content = {
        "shape": scores(golden[:, :4]),
        "type": scores(golden.astype(np.float64)),
        "nan": scores(np.full_like(golden, np.nan)),
        "none": b"no arrays",
    }[kind]
    line = refusal(changed(finder, tmp_path / "a.sonolite", {stage.golden: content}))
    assert "golden" in line


def test_a_classifier_in_its_place_is_refused(
    finder: Bundle, stage: LocatorStage, tmp_path: Path
) -> None:
    model = finder.read(finder.manifest.classifier.variants["int8"])
    line = refusal(changed(finder, tmp_path / "a.sonolite", {stage.variants["int8"]: model}))
    assert "not 64 x 64" in line


def test_a_classifier_of_the_same_side_is_refused(
    finder: Bundle, stage: LocatorStage, tmp_path: Path
) -> None:
    own = finder.manifest.classifier
    side = parse(own.preprocessing).side
    other = structs.replace(stage, preprocessing=f"gray|crop(context=1)|resize({side})")
    members = {stage.variants["int8"]: finder.read(own.variants["int8"])}
    line = refusal(changed(finder, tmp_path / "a.sonolite", members, other))
    assert "does not answer a square map of scores" in line


@pytest.mark.parametrize("wrong", ["oblong", "two", "above", "sides"])
def test_maps_that_break_the_contract_are_refused(
    finder: Bundle, stage: LocatorStage, tmp_path: Path, wrong: str
) -> None:
    """The golden answers are those of the model, so that they show nothing."""
    tf = pytest.importorskip("tensorflow")

    def answer(picture: Any) -> dict[str, Any]:
        score = tf.reshape(tf.reduce_mean(picture) / 255, (1, 1, 1)) * tf.ones((1, 4, 4))
        sides = score[..., tf.newaxis] * tf.ones(4)
        maps = {
            "oblong": (score[:, :2], sides[:, :2]),
            "two": (tf.tile(score, (2, 1, 1)), tf.tile(sides, (2, 1, 1, 1))),
            "above": (score * 1000, sides),
            "sides": (score, sides[..., :3]),
        }
        return dict(zip(("score", "sides"), maps[wrong], strict=True))

    side = parse(stage.preprocessing).side
    model = answering(answer, side)
    backend = CpuBackend(model, "x.tflite")
    tensors = locator_tensors(read_golden(finder).frames, parse(stage.preprocessing))
    golden = np.stack([backend.run(tensor[np.newaxis])["score"][0] for tensor in tensors])
    members = {stage.variants["int8"]: model, stage.golden: scores(golden)}
    line = refusal(changed(finder, tmp_path / "a.sonolite", members))
    expected = {
        "above": "the scores of the locator do not lie from 0 to 1",
        "sides": "the locator does not answer four sides a place",
    }
    assert expected.get(wrong, "does not answer a square map of scores") in line


def test_bytes_that_are_no_model_are_refused(
    finder: Bundle, stage: LocatorStage, tmp_path: Path
) -> None:
    member = stage.variants["int8"]
    assert member in refusal(changed(finder, tmp_path / "a.sonolite", {member: b"no model" * 20}))
