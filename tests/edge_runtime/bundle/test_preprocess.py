"""The preprocessing string: what it makes of a picture, and what it refuses."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Box
from edge_runtime.bundle.preprocess import parse

PLAIN = "gray|crop(context=1.6)|resize(160)"


def test_the_tensor_is_what_the_model_contract_asks_for() -> None:
    tensor = parse(PLAIN)(np.zeros((480, 640, 3), np.uint8), Box(100, 100, 80, 60))
    assert tensor.shape == (1, 160, 160, 1)
    assert tensor.dtype == np.uint8


def test_gray_weighs_the_channels_as_luma() -> None:
    pixels = np.full((64, 64, 3), (255, 0, 0), np.uint8)  # pure blue
    assert parse("gray|resize(64)")(pixels).max() == 29  # 0.114 of 255


def test_the_crop_is_a_square_around_the_box() -> None:
    pixels = np.zeros((400, 400), np.uint8)
    pixels[160:240, 180:220] = 200  # the box: 40 wide, 80 high
    tensor = parse("gray|crop(context=2)|resize(160)")(pixels, Box(180, 160, 40, 80))[0, :, :, 0]
    assert tensor[80, 80] == 200
    rows, columns = np.flatnonzero(tensor[:, 80] > 100), np.flatnonzero(tensor[80] > 100)
    assert (len(rows), len(columns)) == (80, 40)  # half and a quarter of the window


def test_beyond_the_picture_it_is_black() -> None:
    pixels = np.full((100, 100), 200, np.uint8)
    tensor = parse("gray|crop(context=2)|resize(64)")(pixels, Box(0, 0, 50, 50))[0, :, :, 0]
    assert tensor[:15].max() == 0
    assert tensor[20:, 20:].min() == 200


def test_without_a_box_the_shape_of_what_is_seen_is_kept() -> None:
    pixels = np.full((100, 200), 200, np.uint8)
    tensor = parse(PLAIN)(pixels)[0, :, :, 0]
    assert tensor[:38].max() == 0
    assert tensor[42:118].min() == 200


@pytest.mark.parametrize("box", [None, Box(0, 0, 60_000, 20)])
def test_a_window_that_takes_all_memory_is_refused(box: Box | None) -> None:
    flat = np.zeros((40, 90_000), np.uint8)
    with pytest.raises(BadInput, match="pixels is too large; crop the picture"):
        parse("gray|crop(context=1.6)|resize(32)")(flat, box)


def test_without_a_crop_the_box_changes_nothing() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    plain = parse("gray|resize(64)")
    assert not plain.crops
    assert np.array_equal(plain(pixels), plain(pixels, Box(3, 3, 20, 20)))


def test_shrinking_averages() -> None:
    checker = (np.indices((128, 128)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.ptp(parse("gray|resize(64)")(checker).astype(int)) <= 1


@pytest.mark.parametrize(
    "box", [Box(500, 500, 10, 10), Box(0, 0, 60000, 60000), Box(-5, 0, 10, 10), Box(0, 0, 9, 99)]
)
def test_a_box_outside_the_picture_is_refused(box: Box) -> None:
    with pytest.raises(BadInput, match="outside"):
        parse(PLAIN)(np.zeros((50, 50), np.uint8), box)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no step ''"),
        ("gray", "the steps are"),
        ("resize(64)|gray", "the steps are"),
        ("gray|resize(64)|crop(1.5)", "the steps are"),
        ("gray|sharpen|resize(64)", "no step 'sharpen'"),
        ("gray|resize", "takes 1 argument"),
        ("gray|resize(64,64)", "takes 1 argument"),
        ("gray|resize(size=64)", "takes side"),
        ("gray|resize(6.5)", "whole number"),
        ("gray|resize(8)", "16 to 1024"),
        ("gray|resize(4096)", "16 to 1024"),
        ("gray|crop(context=0.5)|resize(64)", "from 1 to 4"),
        ("gray|crop(__import__('os'))|resize(64)", "no step"),
    ],
)
def test_ill_formed_strings_are_refused_and_named(text: str, said: str) -> None:
    with pytest.raises(BadInput, match="preprocessing") as refusal:
        parse(text)
    assert said in str(refusal.value)


@given(st.text(alphabet="gray|cropesiz()=.,0123456789 x", max_size=60))
def test_any_string_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse(text)
    except BadInput:
        return
    assert 16 <= parsed.side <= 1024


@given(
    size=st.tuples(st.integers(8, 300), st.integers(8, 300)),
    box=st.builds(
        Box, st.integers(0, 400), st.integers(0, 400), st.integers(1, 400), st.integers(1, 400)
    ),
    context=st.integers(10, 40),
)
def test_every_box_gives_a_tensor_or_a_refusal(
    size: tuple[int, int], box: Box, context: int
) -> None:
    try:
        tensor = parse(f"gray|crop({context / 10})|resize(32)")(np.full(size, 9, np.uint8), box)
    except BadInput:
        return
    assert tensor.shape == (1, 32, 32, 1)


def test_training_and_device_see_the_same_in_colour_and_in_grey() -> None:
    """A grabber gives three channels of what was stored as one."""
    gray = np.random.default_rng(0).integers(0, 256, (90, 120), dtype=np.uint8)
    bgr = np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR), np.uint8)
    box = Box(20, 20, 40, 30)
    assert np.array_equal(parse(PLAIN)(gray, box), parse(PLAIN)(bgr, box))
