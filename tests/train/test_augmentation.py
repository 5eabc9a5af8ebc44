"""Augmentation: each effect does what its name says, and what must not change does not."""

import json
from dataclasses import fields, replace
from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import BadInput, Box
from devices.capture.phantom import Phantom
from devices.schema_io import read_json
from edge_runtime.bundle.preprocess import Crop, parse
from edge_runtime.bundle.preprocess import Picture as Prepared
from train.augmentation import (
    ECHO,
    LEVELS_PER_DB,
    OFF,
    SCREEN,
    SOURCE,
    Augmentation,
    Effect,
    calipers,
    contact_sheet,
    jitter,
    redraw,
    text,
    vary,
)

SIDE = 128
LIMITS = {
    **dict.fromkeys(("mirror", "erase", "calipers", "text", "jpeg"), 1.0),
    **dict.fromkeys(("attenuation", "shadow", "tgc", "gain"), 20.0),
    **dict.fromkeys(("dynamic_range", "gamma", "scale"), 1.0),
    "resolution": 0.05,
    "speckle": 5.57,
    "shift": 0.5,
}
SCANNERS = st.builds(
    Augmentation, **{name: st.floats(0, largest) for name, largest in LIMITS.items()}
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def flat(level: int) -> NDArray[np.uint8]:
    return np.full((SIDE, SIDE), level, np.uint8)


@pytest.fixture(scope="module")
def nodule() -> NDArray[np.uint8]:
    phantom = Phantom(live=False)
    prepare = parse(f"gray|crop(context=1.6)|resize({SIDE})")
    return prepare(phantom.render(40), phantom.nodule_box(40))[0, ..., 0]


def one(name: str, picture: NDArray[np.uint8], strength: float, seed: int) -> NDArray[np.float64]:
    """The picture with one effect alone."""
    return vary(picture, replace(OFF, **{name: strength}), rng(seed)).astype(float)


def test_the_same_seed_gives_the_same_picture(nodule: NDArray[np.uint8]) -> None:
    first, again, other = (vary(nodule, Augmentation(), rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@given(seed=st.integers(0, 99), side=st.integers(16, 256))
def test_off_is_the_identity(seed: int, side: int) -> None:
    picture = rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    assert np.array_equal(vary(picture, OFF, rng(seed)), picture)


@pytest.mark.parametrize("name", [its.__name__ for its in (*SOURCE, *ECHO, *SCREEN)])
def test_each_effect_alone_changes_the_picture(nodule: NDArray[np.uint8], name: str) -> None:
    marked = nodule.copy()
    cv2.drawMarker(marked, (30, 60), 255, cv2.MARKER_CROSS, 9)
    strength = LIMITS[name]
    assert any((one(name, marked, strength, seed) != marked).any() for seed in range(4))


@given(
    side=st.integers(16, 256),
    augmentation=SCANNERS,
    seed=st.integers(0, 999),
    kind=st.integers(0, 3),
)
@settings(max_examples=150)
def test_any_picture_stays_a_picture(
    side: int, augmentation: Augmentation, seed: int, kind: int
) -> None:
    noise = rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    picture = (noise, noise // 128 * 255, np.zeros_like(noise), np.full_like(noise, 255))[kind]
    before = picture.copy()
    varied = vary(picture, augmentation, rng(seed))
    assert varied.dtype == np.uint8
    assert varied.shape == picture.shape
    assert np.array_equal(picture, before), "the picture that was given has been changed"


@given(augmentation=SCANNERS, seed=st.integers(0, 999))
def test_black_stays_black(augmentation: Augmentation, seed: int) -> None:
    picture = rng(7).integers(1, 256, (64, 64), dtype=np.uint8)
    picture[:12], picture[:, :9] = 0, 0
    varied = vary(picture, replace(augmentation, calipers=0, text=0, mirror=0, erase=0), rng(seed))
    assert not varied[picture == 0].any()


def test_darkness_near_black_is_lifted_gently() -> None:
    """No edge appears between what was black and what was almost black."""
    lifted = [one("gain", flat(level), 20, seed=1).mean() for level in (0, 1, 2, 4, 40)]
    assert lifted[0] == 0
    assert lifted == sorted(lifted)
    assert lifted[1] < 4
    assert lifted[4] > 60


def test_mirror_exchanges_left_and_right_and_never_up_and_down() -> None:
    picture = rng(0).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    assert np.array_equal(one("mirror", picture, 1, 0), picture[:, ::-1])
    seen = [np.array_equal(one("mirror", picture, 0.5, seed), picture) for seed in range(100)]
    assert 30 < sum(seen) < 70


@pytest.mark.parametrize("seed", range(4))
def test_gain_in_dB_becomes_grey_levels(seed: int) -> None:  # noqa: N802
    decibels = rng(seed).normal(0, 3)
    rise = one("gain", flat(120), 3, seed).mean() - 120
    assert rise == pytest.approx(decibels * 255 / 60, abs=0.5)


def test_resolution_is_worse_laterally_or_edges_are_enhanced() -> None:
    def roughness(picture: NDArray[np.floating]) -> NDArray[np.float64]:
        """Energy of the differences laterally and axially."""
        return np.array([np.square(np.diff(picture, axis=axis)).mean() for axis in (1, 0)])

    picture = rng(0).integers(60, 190, (SIDE, SIDE), dtype=np.uint8)
    ratios = np.array(
        [
            roughness(one("resolution", picture, 0.01, seed)) / roughness(picture.astype(float))
            for seed in range(30)
        ]
    )
    assert (ratios.min() < 0.5) & (ratios.max() > 1.2)
    for lateral, axial in ratios:
        assert (lateral <= axial <= 1) or (lateral >= axial >= 1)


def test_speckle_has_the_law_and_the_grain_of_speckle() -> None:
    fields_seen = [one("speckle", flat(128), 5.57, seed) - 128 for seed in range(40)]
    grainy = [field for field in fields_seen if field.std() > 4 * LEVELS_PER_DB * 0.5]
    assert 8 < len(grainy) < 32
    for field in grainy:
        assert 0.2 < field.std() / LEVELS_PER_DB < 5.8
        assert abs(field.mean()) < 0.5
        skewness = ((field - field.mean()) ** 3).mean() / field.std() ** 3
        assert skewness < -0.5  # a double exponential law: -1.14; nulls are filled with noise
        lateral, axial = ((field * np.roll(field, 1, axis)).mean() / field.var() for axis in (1, 0))
        assert lateral > axial


def test_attenuation_is_in_proportion_to_depth() -> None:
    change = one("attenuation", flat(128), 4, seed=1) - 128
    assert np.ptp(change, axis=1).max() == 0
    rows = change[:, 0]
    assert abs(rows[SIDE // 2]) <= 1
    assert rows[0] == pytest.approx(-rows[-1], abs=1)
    assert abs(rows[0]) > 2
    assert np.allclose(rows, np.linspace(rows[0], rows[-1], SIDE), atol=1)


def test_a_shadow_falls_below_a_place_beside_the_nodule() -> None:
    changes = np.array([one("shadow", flat(128), 6, seed) - 128 for seed in range(40)])
    strength = np.abs(changes).mean(axis=0)
    assert strength[:, 45:83].max() < 0.5
    assert strength[-1, :20].max() > 3
    assert strength[-1, -20:].max() > 3
    assert strength[0].max() < 0.5 * strength[-1].max()
    assert {np.sign(change.sum()) for change in changes} >= {-1, 1}


def test_tgc_is_smooth_over_depth_and_the_same_across() -> None:
    change = one("tgc", flat(128), 3, seed=2) - 128
    assert np.ptp(change, axis=1).max() == 0
    rows = change[:, 0]
    assert np.ptp(rows) > 5
    assert np.abs(np.diff(rows)).max() <= 3


@pytest.mark.parametrize("seed", range(4))
def test_dynamic_range_changes_the_contrast_about_the_mean(seed: int) -> None:
    picture = rng(0).integers(80, 160, (SIDE, SIDE), dtype=np.uint8)
    varied = one("dynamic_range", picture, 0.2, seed)
    wider = rng(seed).normal(0, 0.2)
    assert varied.std() / picture.std() == pytest.approx(np.exp(-wider), rel=0.02)
    assert varied.mean() == pytest.approx(picture.mean(), abs=0.5)


def test_gamma_keeps_black_white_and_the_order() -> None:
    picture = np.arange(256, dtype=np.uint8).repeat(256).reshape(256, 256)
    greys = one("gamma", picture, 0.3, seed=3)[:, 0]
    assert (greys[0], greys[-1]) == (0, 255)
    assert (np.diff(greys) >= 0).all()
    assert abs(greys[128] - 128) > 5


@pytest.mark.parametrize("seed", range(8))
def test_calipers_are_few_bright_pixels_away_from_the_edge(seed: int) -> None:
    painted = one("calipers", flat(60), 1, seed) - 60
    assert painted.min() >= 0
    assert painted.max() > 60
    assert 10 < np.count_nonzero(painted) < 0.06 * painted.size


def test_one_pair_of_calipers_lies_across_and_most_have_an_upright_one_too() -> None:
    seen = [np.nonzero(one("calipers", flat(60), 1, seed) != 60) for seed in range(40)]
    heights, widths = (np.array([np.ptp(places[axis]) for places in seen]) for axis in (0, 1))
    assert widths.min() > 0.4 * SIDE
    assert 16 < np.count_nonzero(heights > 0.4 * SIDE) < 38


@pytest.mark.parametrize("paint", [calipers, text])
def test_what_is_painted_is_painted_on_a_copy(paint: Effect[NDArray[np.uint8]]) -> None:
    picture = flat(60)
    assert (paint(picture, 1, rng()) != 60).any()
    assert (picture == 60).all()


@pytest.mark.parametrize("seed", range(8))
def test_text_is_at_the_upper_or_the_lower_margin(seed: int) -> None:
    painted = one("text", flat(60), 1, seed) - 60
    rows = np.flatnonzero(painted.any(axis=1))
    assert len(rows) > 3
    assert rows.max() < 0.2 * SIDE or rows.min() > 0.8 * SIDE


def test_jpeg_costs_little(nodule: NDArray[np.uint8]) -> None:
    stored = one("jpeg", nodule, 1, seed=0)
    assert 0 < np.abs(stored - nodule).mean() < 5


@pytest.mark.parametrize("size", [5, 9, 15])
def test_erase_closes_a_cross(nodule: NDArray[np.uint8], size: int) -> None:
    smooth = np.asarray(cv2.GaussianBlur(nodule, (0, 0), 3), np.uint8)
    marked = smooth.copy()
    for place in ((20, 64), (108, 60), (64, 20)):
        cv2.drawMarker(marked, place, 240, cv2.MARKER_CROSS, size, 1 if size < 15 else 2)
    assert np.abs(marked.astype(float) - smooth).max() > 100
    assert np.abs(one("erase", marked, 1, 0) - smooth).max() < 30


def test_erase_leaves_echogenic_foci_and_fasciae() -> None:
    picture = flat(70)
    for x in range(10, 120, 14):
        cv2.circle(picture, (x, 50), x // 20, 220, -1)  # 1 to 13 pixels wide
    cv2.line(picture, (0, 90), (127, 94), 200, 2)
    cv2.line(picture, (0, 110), (127, 110), 220, 1)
    assert np.array_equal(one("erase", picture, 1, 0), picture)


@given(
    x=st.integers(0, 90),
    y=st.integers(0, 70),
    w=st.integers(0, 110),
    h=st.integers(0, 90),
    augmentation=SCANNERS,
    seed=st.integers(0, 999),
)
def test_a_jittered_box_can_be_cropped(
    x: int, y: int, w: int, h: int, augmentation: Augmentation, seed: int
) -> None:
    box = jitter(Box(x, y, min(w, 101 - x), min(h, 81 - y)), augmentation, rng(seed), 100, 80)
    assert min(box.w, box.h) >= 1
    assert min(Crop(1.6)(Prepared(np.zeros((80, 100), np.uint8), box)).pixels.shape) >= 1


def test_jitter_off_leaves_the_box() -> None:
    for box in (Box(10, 20, 33, 41), Box(0, 0, 201, 101), Box(200, 100, 1, 1)):
        assert jitter(box, OFF, rng(), 200, 100) == box


def test_a_redrawn_box_keeps_its_middle_and_stays_in_the_picture() -> None:
    assert redraw(Box(40, 30, 20, 10), 1.5, 200, 100) == Box(35, 28, 30, 15)
    assert redraw(Box(0, 90, 20, 10), 2.0, 200, 100) == Box(0, 81, 40, 20)
    assert redraw(Box(3, 3, 1, 1), 0.1, 200, 100) == Box(3, 3, 1, 1)


def test_jitter_spreads_as_the_scanner_says() -> None:
    generator, box, augmentation = (
        rng(),
        Box(400, 300, 200, 100),
        replace(OFF, shift=0.05, scale=0.1),
    )
    boxes = np.array([jitter(box, augmentation, generator, 1000, 800) for _ in range(2000)])
    centres = boxes[:, :2] + boxes[:, 2:] / 2
    assert centres.mean(axis=0) == pytest.approx([500, 350], abs=1)
    assert centres.std(axis=0) == pytest.approx([10, 10], rel=0.1)
    assert np.log(boxes[:, 2] / 200).std() == pytest.approx(0.1, rel=0.1)
    assert boxes[:, 2] / boxes[:, 3] == pytest.approx(np.full(2000, 2), rel=0.02)


def test_a_recipe_table_is_a_scanner() -> None:
    assert read_json("{}", Augmentation, "a") == Augmentation()
    assert read_json('{"gain": 1.5, "mirror": 0}', Augmentation, "a") == Augmentation(
        gain=1.5, mirror=0
    )
    assert read_json(json.dumps(LIMITS), Augmentation, "a") == Augmentation(**LIMITS)
    assert set(LIMITS) == {field.name for field in fields(Augmentation)}


@pytest.mark.parametrize(
    "entry",
    [
        '{"hue": 1}',
        '{"gain": NaN}',
        *(
            json.dumps({name: wrong})
            for name, largest in LIMITS.items()
            for wrong in (-0.1, largest * 1.1)
        ),
    ],
)
def test_a_wrong_strength_is_refused(entry: str) -> None:
    with pytest.raises(BadInput):
        read_json(entry, Augmentation, "a")


def test_a_contact_sheet_begins_with_the_picture(nodule: NDArray[np.uint8]) -> None:
    draw = partial(vary, nodule)
    sheet = contact_sheet(draw, Augmentation(), seed=0)
    assert sheet.dtype == np.uint8
    assert sheet.shape == (5 * 216, 6 * 196)
    assert np.array_equal(sheet[:192, :192], cv2.resize(nodule, (192, 192)))
    assert np.array_equal(sheet, contact_sheet(draw, Augmentation(), seed=0))


def test_a_contact_sheet_shows_only_what_is_on(nodule: NDArray[np.uint8]) -> None:
    sheet = contact_sheet(
        partial(vary, nodule), replace(OFF, mirror=0.5), seed=0, rows=1, columns=2
    )
    flipped = cv2.resize(np.ascontiguousarray(nodule[:, ::-1]), (192, 192))
    assert np.array_equal(sheet[:192, 196 : 196 + 192], flipped)
