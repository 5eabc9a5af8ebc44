"""What is kept of each image is all that preprocessing can see of it; the rest says why it went."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices import BadInput, Box
from edge_runtime.bundle.preprocess import parse
from train.augmentation import Augmentation, jitter
from train.duplicates import fingerprint
from train.loading import MARGIN, cut, load, prepare
from train.samples import Collection, Dropped, Sample, tell_dropped

WIDTH, HEIGHT = 120, 90
SCREEN = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
CROPPED = parse("gray|crop(context=1.6)|resize(32)")


def found(samples: Sequence[Sample]) -> Collection:
    return Collection(tuple(samples), ())


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Boxes of all sizes, as many at the borders; VOC counts from 1, so they may end beyond."""
    ends = []
    for size in (WIDTH, HEIGHT):
        low = draw(st.integers(0, size))
        high = draw(st.integers(low + 1, size + 1))
        ends.append((low, high))
    (left, right), (top, bottom) = ends
    return Box(left, top, right - left, bottom - top)


@settings(max_examples=300)
@given(box=st.none() | boxes(), context=st.floats(1, 4), crops=st.booleans())
def test_a_patch_is_prepared_as_the_whole_picture_is(
    box: Box | None, context: float, crops: bool
) -> None:
    crop = f"crop(context={context:.2f})|" if crops else ""
    preprocessing = parse(f"gray|{crop}resize(32)")
    patch = cut(SCREEN, box, preprocessing)
    assert np.array_equal(
        preprocessing(patch.pixels, patch.box), preprocessing(SCREEN, box if crops else None)
    )


@settings(max_examples=300)
@given(box=boxes(), seed=st.integers(0, 999))
def test_a_moved_box_sees_what_it_would_see_in_the_whole_picture(box: Box, seed: int) -> None:
    patch = cut(SCREEN, box, CROPPED)
    assert patch.box is not None
    left, top = box.x - patch.box.x, box.y - patch.box.y
    height, width = patch.pixels.shape
    moved = jitter(patch.box, Augmentation(), np.random.default_rng(seed), width, height)
    there = Box(moved.x + left, moved.y + top, moved.w, moved.h)
    longer = max(box.w, box.h)
    reach = max(
        abs(2 * (moved.x - patch.box.x) + moved.w - box.w),
        abs(2 * (moved.y - patch.box.y) + moved.h - box.h),
    )
    if reach + 1.6 * max(moved.w, moved.h) <= MARGIN * 1.6 * longer:
        assert np.array_equal(CROPPED(patch.pixels, moved), CROPPED(SCREEN, there))


def test_a_patch_is_small_where_the_nodule_is() -> None:
    patch = cut(SCREEN, Box(50, 40, 10, 8), CROPPED)
    assert max(patch.pixels.shape) <= 10 * 1.6 * MARGIN + 4
    assert patch.pixels.base is None  # else the whole picture would stay in memory


def picture(folder: Path, name: str, pixels: np.ndarray = SCREEN) -> Path:
    cv2.imwrite(str(folder / name), pixels)
    return folder / name


def test_what_cannot_be_used_is_dropped_with_its_reason(tmp_path: Path) -> None:
    good, small = picture(tmp_path, "a.png"), picture(tmp_path, "small.png", SCREEN[:40, :40])
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    samples = [
        Sample(good, "benign", Box(10, 10, 40, 30), "p1"),
        Sample(broken, "benign", None, "p1"),
        Sample(tmp_path / "gone.png", "benign", None, "p2"),
        Sample(small, "malignant", None, "p3"),
        Sample(good, "malignant", Box(10, 10, 4, 3), "p4"),
        Sample(good, "malignant", Box(100, 10, 40, 30), "p4"),
        Sample(good, "malignant", None, "p5"),
    ]
    loaded = load(found(samples), CROPPED)
    assert loaded.samples == (samples[0], samples[6])
    assert loaded.reasons == {"unreadable": 2, "too small": 2, "box outside the picture": 1}
    assert loaded.dropped[0] == Dropped(str(broken), "unreadable")
    assert len(loaded.patches) == len(loaded.fingerprints) == 2
    assert loaded.scanners == ("120x90", "120x90")
    assert np.array_equal(loaded.fingerprints[0], fingerprint(SCREEN))


def test_what_was_dropped_before_is_counted_first(tmp_path: Path) -> None:
    before = Dropped("x.png", "no label")
    sample = Sample(picture(tmp_path, "a.png"), "benign", None, "p")
    gone = Sample(tmp_path / "gone.png", "benign", None, "p")
    loaded = load(Collection((sample, gone), (before,)), CROPPED)
    assert loaded.dropped == (before, Dropped(str(gone.path), "unreadable"))


def test_every_image_is_read_once_and_counted(tmp_path: Path) -> None:
    samples = [Sample(picture(tmp_path, f"{its}.png"), "benign", None, "p") for its in "abc"]
    seen: list[Sample] = []

    def watched(items: Iterable[Sample]) -> Iterable[Sample]:
        for item in items:
            seen.append(item)
            yield item

    load(found(samples), CROPPED, watched)
    assert seen == samples


def test_where_nothing_is_left_it_says_so(tmp_path: Path) -> None:
    samples = [Sample(tmp_path / "gone.png", "benign", None, "p")]
    with pytest.raises(BadInput, match="none of the 1 images can be used: unreadable"):
        load(Collection(tuple(samples), (Dropped("x.png", "no label"),)), CROPPED)


def test_it_says_why_the_first_cannot_be_read(tmp_path: Path) -> None:
    deep = picture(tmp_path, "deep.png", SCREEN.astype(np.uint16) * 257)
    words = "uint16 pixels; window them to 8 bits first"
    with pytest.raises(BadInput, match=f"unreadable: {deep}: {words}"):
        load(found([Sample(deep, "benign", None, "p")]), CROPPED)
    sound = picture(tmp_path, "sound.png")
    loaded = load(found([Sample(its, "benign", None, "p") for its in (deep, sound)]), CROPPED)
    line = f"1 dropped: unreadable; the first: {deep}: {words}"
    assert tell_dropped(loaded.dropped) == [line]


def test_prepared_patches_are_one_tensor_in_their_order(tmp_path: Path) -> None:
    samples = [
        Sample(picture(tmp_path, "a.png"), "benign", Box(10, 10, 40, 30), "p1"),
        Sample(picture(tmp_path, "b.png", 255 - SCREEN), "malignant", None, "p2"),
    ]
    tensor = prepare(load(found(samples), CROPPED).patches, CROPPED)
    assert tensor.shape == (2, 32, 32, 1)
    assert tensor.dtype == np.uint8
    assert np.array_equal(tensor[:1], CROPPED(SCREEN, samples[0].box))
    assert np.array_equal(tensor[1:], CROPPED(255 - SCREEN, None))
