"""Marked pictures as squares: what a locator learns from, and what it is measured on."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, Pixels
from devices.capture.dicom import is_dicom, read_header
from devices.capture.phantom import NODULES, Phantom
from edge_runtime.bundle.preprocess import Crop, Gray, Picture, Preprocessing, Resize
from edge_runtime.screen.region import Region
from train.duplicates import find_common, fingerprint
from train.importers.boxes import read_marked
from train.locator.augmentation import Square
from train.locator.metrics import EDGE
from train.marked import MarkedPicture, marked_pixels
from train.samples import LEAK, PARTS, Dropped, Part, frame_name, tell_dropped

LARGER = 1.25
"""How much larger a square is kept than the network sees it, so that it can be moved and scaled."""
BLOCKS = 20
"""Groups are cut into so many runs of neighbouring names; a run stands on one side."""
TEST_BLOCKS = 3
"""Of `BLOCKS`, those that test; as many validate."""
SIMULATED_NECKS, SIMULATED_FRAMES = 80, range(5, 160, 31)

Progress = Callable[[Iterable[MarkedPicture]], Iterable[MarkedPicture]]


@dataclass(frozen=True)
class LocatorPicture:
    """A marked picture as a square."""

    marked: MarkedPicture
    square: Square
    window: Box
    """The part of the stored picture in the square, in pixels; the window may overhang it."""
    part: Part
    source: int
    """The number of the data set, from 0."""
    moving: bool
    """Whether it is a frame of a clip."""
    edge: bool
    """Whether it is empty, and within `EDGE` frames of a marked one: it teaches nothing."""


@dataclass(frozen=True)
class LocatorData:
    """What was read of some data sets."""

    pictures: tuple[LocatorPicture, ...]
    dropped: dict[str, int]
    """Pictures that could not be used, by reason."""
    notes: tuple[str, ...]

    def of(self, part: Part) -> list[LocatorPicture]:
        """The pictures of one part, in their order."""
        return [picture for picture in self.pictures if picture.part == part]


def read_locator_data(
    folders: Sequence[Path], side: int, seed: int, progress: Progress = iter
) -> LocatorData:
    """Reads data sets, and says of each picture what it is for.

    The split is the one that a data set gives; else its groups, in the order of their names, are
    cut into runs, because neighbouring names are often one neck. Of near duplicates on two sides
    the training side's is dropped, or the validation side's where the other tests. Raises BadInput
    where a data set cannot be read, where a group stands on two sides, and where no picture of a
    part has a box.
    """
    pictures: list[LocatorPicture] = []
    dropped: list[Dropped] = []
    notes: list[str] = []
    for source, folder in enumerate(folders):
        found = read_marked(folder)
        notes += [f"data: {found.summary}", *found.notes]
        dropped += found.dropped
        parts = split_runs(found.pictures, seed)
        given = [replace(its, part=parts[its.group]) for its in found.pictures]
        squares = read_squares(given, side, progress, dropped.append, LARGER)
        pictures += [replace(its, source=source) for its in squares]
    lines = tell_dropped(dropped)
    if not any(picture.marked.boxes for picture in pictures):
        raise BadInput("; ".join([f"{folders[0]}: no picture with a box can be used", *lines]))
    notes += lines
    pictures, leaks = without_leaks(pictures, side)
    if leaks:
        dropped += [Dropped(name, LEAK) for name, _ in leaks]
        notes.append(
            f"{len(leaks)} pictures are dropped as duplicates across the split, such as "
            f"{' of '.join(leaks[0])}"
        )
    held = {picture.part for picture in pictures if picture.marked.boxes}
    if bare := [part for part in PARTS if part not in held]:
        words = f"no picture with a box is of the part {bare[0]}; a column 'split' decides"
        raise BadInput("; ".join([f"{folders[0]}: {words}", *tell_dropped(dropped)]))
    reasons = dict(Counter(str(each.reason) for each in dropped))
    return LocatorData(tuple(pictures), reasons, tuple(notes))


def read_squares(
    marked: Sequence[MarkedPicture],
    side: int,
    progress: Progress,
    drop: Callable[[Dropped], object] | None = None,
    varied: float = 1.0,
) -> Iterator[LocatorPicture]:
    """The ultrasound pictures as squares that the network sees, made smaller once, as on a device.

    The ultrasound picture is where a DICOM file says; else the search of a device finds it on the
    screen, over the frames of a clip. `side` is the side of a square in pixels; squares of the part
    `train` are `varied` times as large. A picture without a part is of the part `test`. `drop` is
    told of each picture that cannot be used; without it the first raises BadInput.
    """
    places = {(its.path, its.frame) for its in marked if its.boxes}
    moving = Counter(its.path for its in marked)
    region, path = Region(), None
    for picture, pixels in marked_pixels(marked, progress, drop):
        if picture.path != path:
            region, path = Region(device_region=stored_region(picture.path)), picture.path
        box, inside = ultrasound_picture(pixels, region)
        boxes = [Box(x - box.x, y - box.y, w, h) for x, y, w, h in picture.boxes]
        side_kept = round(varied * side) if picture.part == "train" else side
        left, top, longer, _ = whole_window(inside)
        near = any(
            (picture.path, picture.frame + step) in places for step in range(-EDGE, EDGE + 1)
        )
        yield LocatorPicture(
            marked=picture,
            square=square_of(inside, boxes, side_kept),
            window=Box(box.x + left, box.y + top, longer, longer),
            part=picture.part or "test",
            source=0,
            moving=moving[picture.path] > 1,
            edge=not picture.boxes and near,
        )


def without_leaks(
    pictures: Sequence[LocatorPicture], side: int
) -> tuple[list[LocatorPicture], list[tuple[str, str]]]:
    """The pictures that no picture of a later part duplicates, in their order; `side` in pixels.

    Of the others, the name of each with that of its duplicate. Those of one part may be alike.
    """
    prints = [fingerprint(_as_seen(picture, side)) for picture in pictures]
    kept: list[int] = []
    gone: dict[int, int] = {}
    for part in reversed(PARTS):
        own = [place for place, picture in enumerate(pictures) if picture.part == part]
        pairs = find_common((prints[place] for place in own), (prints[place] for place in kept))
        likest = sorted(pairs, key=lambda pair: pair.likeness)  # the last one of a picture counts
        gone |= {own[pair.first]: kept[pair.second] for pair in likest}
        kept += [place for place in own if place not in gone]
    names = [frame_name(picture.marked.path, picture.marked.frame) for picture in pictures]
    left = [picture for place, picture in enumerate(pictures) if place not in gone]
    return left, [(names[place], names[same]) for place, same in sorted(gone.items())]


def split_runs(pictures: Sequence[MarkedPicture], seed: int) -> dict[str, Part]:
    """The part of each group; see `read_locator_data`."""
    given: dict[str, Part] = {}
    for picture in pictures:
        if (
            picture.part is not None
            and given.setdefault(picture.group, picture.part) != picture.part
        ):
            raise BadInput(f"group {picture.group!r} stands on two sides")
    groups = sorted({picture.group for picture in pictures})
    if given:
        if left := [group for group in groups if group not in given]:
            raise BadInput(f"group {left[0]!r} has no split; give all of them one, or none")
        return given
    if len(groups) < len(PARTS):
        raise BadInput(f"{len(groups)} groups of pictures; one each to train, validate and test")
    blocks = min(BLOCKS, len(groups))
    order = np.random.default_rng(seed).permutation(blocks)
    tested = max(1, round(TEST_BLOCKS * blocks / BLOCKS))
    part_of = dict.fromkeys(order.tolist(), "train")
    part_of |= dict.fromkeys(order[:tested].tolist(), "test")
    part_of |= dict.fromkeys(order[tested : 2 * tested].tolist(), "validation")
    runs = np.array_split(np.arange(len(groups)), blocks)
    return {
        groups[place]: part_of[number]  # type: ignore[misc]
        for number, run in enumerate(runs)
        for place in run
    }


def ultrasound_picture(pixels: Pixels, region: Region) -> tuple[Box, Pixels]:
    """The box of the ultrasound picture on a screen, and its pixels: what a locator gets.

    `region` has searched the frames before. Where there is no picture, the whole screen counts. The
    next call may overwrite the pixels.
    """
    height, width = pixels.shape[:2]
    box = region.locate(pixels) or Box(0, 0, width, height)
    return box, region.cut(pixels, box)


def stored_region(path: Path) -> Box | None:
    """Where a DICOM file says that its ultrasound picture lies; None where it does not say."""
    return read_header(path).region if is_dicom(path) else None


def whole_window(pixels: Pixels) -> Box:
    """The smallest square around a whole picture."""
    height, width = pixels.shape[:2]
    return Crop(1).window(width, height, None)


def square_of(pixels: Pixels, boxes: Sequence[Box], side: int) -> Square:
    """A whole picture as a square, black beyond it, with boxes as shares of the side."""
    left, top, longer, _ = whole_window(pixels)
    resized = Resize(side)(Gray()(Crop(1)(Picture(pixels, None)))).pixels
    corners = [(x - left, y - top, x + w - left, y + h - top) for x, y, w, h in boxes]
    return Square(resized, np.asarray(corners, np.float32).reshape(-1, 4) / np.float32(longer))


def simulated_pictures(side: int) -> list[Square]:
    """Pictures of the phantom, with and without a nodule; seeds that no demo shows."""
    squares = []
    for seed in range(100, 100 + SIMULATED_NECKS):
        phantom = Phantom(
            seed=seed, width=480, height=360, nodule=NODULES[seed % len(NODULES)], live=False
        )
        x, y, w, h = phantom.picture
        for moment in SIMULATED_FRAMES:
            box = phantom.nodule_box(moment)
            boxes = [] if box is None else [Box(box.x - x, box.y - y, box.w, box.h)]
            squares.append(square_of(phantom.render(moment)[y : y + h, x : x + w], boxes, side))
    return squares


def network_tensor(picture: LocatorPicture, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The square as the network takes it, uint8 ``[1, side, side, 1]``."""
    side = preprocessing.side
    return _as_seen(picture, side).reshape(1, side, side, 1)


def _as_seen(picture: LocatorPicture, side: int) -> Pixels:
    """The square as large as the network sees it."""
    return Resize(side)(Picture(picture.square.pixels, None)).pixels
