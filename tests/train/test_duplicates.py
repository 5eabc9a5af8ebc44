"""Duplicates: found whatever was done to the copy, never among strangers, never across a split."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput, Pixels
from devices.capture.image import read_image
from tests.conftest import TN5000
from train.duplicates import (
    SIDE,
    Pair,
    find_common,
    find_duplicates,
    fingerprint,
    join_groups,
    refuse_common,
)
from train.samples import Sample


def scan(seed: int, width: int = 640, height: int = 480) -> Pixels:
    """A picture of its own: layers and blobs under speckle, darker with depth."""
    random = np.random.default_rng(seed)
    tissue = np.zeros((height, width), np.float32)
    for cells in (6, 12, 24):
        grid = random.normal(size=(cells, cells)).astype(np.float32)
        tissue += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    speckle = random.rayleigh(size=tissue.shape) * np.linspace(90, 30, height)[:, None]
    return np.clip(np.exp(tissue / 3) * speckle, 0, 255).astype(np.uint8)


def with_calipers(pixels: Pixels) -> Pixels:
    marked = pixels.copy()
    for place in ((200, 200), (300, 200), (250, 150), (250, 250)):
        cv2.drawMarker(marked, place, 255, cv2.MARKER_CROSS, 13, 2)
    cv2.putText(marked, "1.60 cm", (4, 460), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    return marked


def recompressed(pixels: Pixels) -> Pixels:
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 40])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "saved twice": lambda pixels: pixels,
    "in three channels": lambda pixels: np.dstack([pixels] * 3),
    "recompressed": recompressed,
    "with calipers": with_calipers,
    "brighter": lambda pixels: np.clip(1.2 * pixels + 10, 0, 255).astype(np.uint8),
    "cropped": lambda pixels: pixels[5:-5, 5:-5],
    "cropped at the top": lambda pixels: pixels[8:],
    "half the size": lambda pixels: pixels[::2, ::2],
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_a_copy_is_found_among_strangers(copy: Callable[[Pixels], Pixels]) -> None:
    pictures = [scan(seed) for seed in range(12)]
    pairs = find_duplicates(fingerprint(its) for its in [*pictures, copy(pictures[3])])
    assert [(pair.first, pair.second) for pair in pairs] == [(3, 12)]


def test_two_copies_alone_are_found() -> None:
    pair = find_duplicates([fingerprint(scan(1)), fingerprint(with_calipers(scan(1)))])[0]
    assert (pair.first, pair.second) == (0, 1)
    assert 0 <= pair.distance < 10
    assert pair.likeness > 0.8


def test_strangers_on_one_screen_layout_are_no_duplicates() -> None:
    def on_screen(pixels: Pixels) -> Pixels:
        screen = np.full((700, 1000), 40, np.uint8)
        screen[:, ::50] = 200
        screen[::70] = 160
        screen[100:580, 180:820] = pixels
        return screen

    prints = [fingerprint(on_screen(scan(seed))) for seed in range(40)]
    assert find_duplicates(prints) == []
    assert len(find_duplicates([*prints, prints[0]])) == 1


def test_flat_pictures_are_nobodys_duplicates() -> None:
    black = fingerprint(np.zeros((480, 640), np.uint8))
    noisy = fingerprint(np.random.default_rng(0).integers(0, 8, (480, 640), np.uint8))
    assert find_duplicates([black, black, noisy, noisy, fingerprint(scan(0))]) == []


def test_no_pictures_have_no_duplicates() -> None:
    assert find_duplicates([]) == []
    assert find_common([], [fingerprint(scan(0))]) == []


def test_a_fingerprint_is_a_small_grey_thumbnail() -> None:
    thumbnail = fingerprint(np.dstack([scan(0)] * 3))
    assert thumbnail.shape == (SIDE, SIDE)
    assert thumbnail.dtype == np.uint8


def test_pictures_that_two_collections_share_are_found() -> None:
    known = [fingerprint(scan(seed)) for seed in range(8)]
    others = [fingerprint(scan(20)), fingerprint(with_calipers(scan(5))), fingerprint(scan(21))]
    pairs = find_common(np.array(known), others)
    assert [(pair.first, pair.second) for pair in pairs] == [(5, 1)]


@pytest.mark.skipif(not TN5000.is_dir(), reason="TN5000 is not here")
def test_tn5000_gives_the_pairs_that_were_seen_to_be_one() -> None:
    """Saved twice; with calipers (three times); the next frame (twice); strangers of one layout."""
    ones = [(2220, 3427), (878, 879), (1702, 1703), (4553, 4556), (1502, 1503), (3143, 3144)]
    strangers = [(441, 935), (2043, 4601), (1652, 2917), (2741, 3462), (1110, 1728), (1427, 1910)]
    numbers = [number for pair in (*ones, *strangers) for number in pair]
    paths = [TN5000 / "JPEGImages" / f"{number:06}.jpg" for number in numbers]
    pairs = find_duplicates(fingerprint(read_image(path)) for path in paths)
    assert {(numbers[pair.first], numbers[pair.second]) for pair in pairs} == set(ones)


def sample(group: str, number: int = 0, frame: int = 0) -> Sample:
    return Sample(Path(f"/d/{group}-{number}.png"), "benign", None, group, frame)


def pair(first: int, second: int) -> Pair:
    return Pair(first, second, 0, 1.0)


def test_groups_that_duplicates_link_become_the_smallest_of_them() -> None:
    samples = [sample(group) for group in ("d", "b", "c", "a", "e")]
    joined = join_groups(samples, [pair(0, 1), pair(0, 2), pair(3, 4)])
    assert [its.group for its in joined] == ["b", "b", "b", "a", "a"]
    assert [its.path for its in joined] == [its.path for its in samples]


def test_samples_of_one_file_share_a_group() -> None:
    samples = [Sample(Path("/d/a.png"), "benign", None, group) for group in ("x", "y")]
    assert [its.group for its in join_groups(samples, [])] == ["x", "x"]


@given(data=st.data(), groups=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=20))
def test_joining_is_the_smallest_partition_that_holds_the_pairs(
    data: st.DataObject, groups: list[str]
) -> None:
    index = st.integers(0, len(groups) - 1)
    links = data.draw(st.lists(st.tuples(index, index), max_size=8))
    samples = [sample(group, number) for number, group in enumerate(groups)]
    pairs = [pair(*link) for link in links]
    reached = {group: {group} for group in groups}
    for _ in groups:
        for one, other in links:
            union = reached[groups[one]] | reached[groups[other]]
            for group in union:
                reached[group] = union
    joined = join_groups(samples, pairs)
    assert [its.group for its in joined] == [min(reached[group]) for group in groups]
    assert join_groups(samples, reversed(pairs)) == joined


def test_ten_pairs_are_named_and_the_others_counted() -> None:
    known, given_ = [sample("a", number) for number in range(12)], [sample("b")] * 12
    with pytest.raises(BadInput, match=r"b-0.png is /d/a-9.png; and 2 more$"):
        refuse_common(known, given_, [pair(number, number) for number in range(12)])


def test_pictures_that_the_model_knows_are_refused_by_name() -> None:
    refuse_common([sample("a")], [sample("b")], [])
    with pytest.raises(BadInput, match=r"^the model .* of this data: /d/b-0.png is /d/a-0.png$"):
        refuse_common([sample("a")], [sample("c"), sample("b")], [pair(0, 1)])
