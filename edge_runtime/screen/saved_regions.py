"""The regions that are saved for a source and a size of its screen: a TOML file for people too.

    [[sector]]
    source = "v4l2:///dev/video0"
    screen = [1280, 720]
    polygon = [[400, 40], [880, 40], [1100, 660], [180, 660]]
    roi = [560, 240, 180, 150]

`box = [x, y, w, h]` may stand instead of `polygon`. `roi` may be left out, or stand alone.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from msgspec import Meta

from devices import BadInput, Box
from devices.capture.source_uri import SourceUri
from devices.regular_file import read_regular
from devices.schema_io import read_toml
from edge_runtime.files import configuration_folder, whole_file
from edge_runtime.screen.outline import Corner, Outline, rectangle_outline

REGIONS_FILE = "sectors.toml"
MIN_REGION_SIDE = 8
"""Pixels of the shorter side of a box or polygon; the same as for `--roi`."""
_ENTRY = re.compile(r"^(?=\[\[sector\]\])", re.MULTILINE)

Pixel = Annotated[int, Meta(ge=0, le=16_384)]
Side = Annotated[int, Meta(ge=1, le=16_384)]
ScreenSize = tuple[Side, Side]
"""Width and height of a screen."""


@dataclass(frozen=True, slots=True)
class SavedRegion:
    """One entry: where the picture lies on a source's screen of one size."""

    source: Annotated[str, Meta(min_length=1, max_length=4096)]
    """The key of the source; see `SourceUri.key`."""
    screen: ScreenSize
    polygon: (
        Annotated[tuple[tuple[Pixel, Pixel], ...], Meta(min_length=3, max_length=64)] | None
    ) = None
    """The corners of a convex outline; each corner is a pixel of the picture."""
    box: Box | None = None
    """A rectangle in the place of the polygon."""
    roi: Box | None = None
    """The part of the picture to classify, as for `--roi`."""

    def is_of(self, source: SourceUri) -> bool:
        """Whether the region is saved for this source. A person may have written the whole URI."""
        return SourceUri(self.source).key == source.key

    def __post_init__(self) -> None:
        if self.polygon is not None and self.box is not None:
            raise ValueError("polygon and box exclude each other")
        if self.polygon is None and self.box is None and self.roi is None:
            raise ValueError("polygon, box or roi is needed")
        width, height = self.screen
        for rectangle in filter(None, (self.box, self.roi)):
            if min(rectangle.x, rectangle.y) < 0 or min(rectangle.w, rectangle.h) < MIN_REGION_SIDE:
                raise ValueError(f"x and y are from 0, w and h from {MIN_REGION_SIDE} pixels")
            if rectangle.x + rectangle.w > width or rectangle.y + rectangle.h > height:
                raise ValueError(f"lies outside the {width} x {height} screen")
        if self.polygon is not None:
            require_convex(self.polygon, self.screen)

    @property
    def outline(self) -> Outline | None:
        """The picture's outline; None where only a region of interest is saved."""
        if self.box is not None:
            return rectangle_outline(self.box)
        return None if self.polygon is None else Outline(self.polygon)


@dataclass(frozen=True, slots=True)
class _File:
    sector: tuple[SavedRegion, ...] = ()


def require_convex(polygon: Sequence[Corner], screen: ScreenSize) -> None:
    """Raises ValueError where the corners are no convex polygon on the screen."""
    width, height = screen
    if any(not (0 <= x < width and 0 <= y < height) for x, y in polygon):
        raise ValueError(f"a corner lies outside the {width} x {height} screen")
    corners = np.array(polygon, np.int32)
    if not cv2.isContourConvex(corners):
        raise ValueError("the polygon is not convex, or its corners are out of order")
    _x, _y, w, h = cv2.boundingRect(corners)
    if min(w, h) < MIN_REGION_SIDE:
        raise ValueError(f"the polygon is narrower than {MIN_REGION_SIDE} pixels")


def saved_regions_file() -> Path:
    """The file of the user's saved regions."""
    return configuration_folder() / REGIONS_FILE


def read_saved_regions(path: Path) -> tuple[SavedRegion, ...]:
    """All saved regions; none where there is no file.

    Raises BadInput, naming the first entry that is wrong; entries count from 0.
    """
    return _parse(_read(path), path)


def saved_regions_of(path: Path, source: SourceUri) -> dict[ScreenSize, SavedRegion]:
    """The saved regions of one source, by the size of the screen. Raises BadInput."""
    return {region.screen: region for region in read_saved_regions(path) if region.is_of(source)}


def save_region(path: Path, region: SavedRegion) -> None:
    """Saves a region; it replaces an entry of the same source and size. Raises BadInput."""
    text = _without(path, SourceUri(region.source), (region.screen,))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write(path, text + ("\n" if text.strip() else "") + _entry(region))


def save_roi(path: Path, source: SourceUri, screen: ScreenSize, roi: Box | None) -> None:
    """Saves the region of interest for a source and a size of its screen; None forgets it.

    A saved outline of the picture stays as it is. Raises BadInput.
    """
    saved = saved_regions_of(path, source).get(screen)
    if roi is not None:
        save_region(path, replace(saved or SavedRegion(source.key, screen, roi=roi), roi=roi))
    elif saved is not None and saved.outline is not None:
        save_region(path, replace(saved, roi=None))
    elif saved is not None:
        _write(path, _without(path, source, (screen,)))


def forget_regions(path: Path, source: SourceUri) -> int:
    """Removes the entries of a source; returns how many there were. Raises BadInput."""
    sizes = [region.screen for region in read_saved_regions(path) if region.is_of(source)]
    if sizes:
        _write(path, _without(path, source, sizes))
    return len(sizes)


def _read(path: Path) -> str:
    try:
        return read_regular(path).decode()
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8") from error


def _parse(text: str, path: Path) -> tuple[SavedRegion, ...]:
    return read_toml(text.encode(errors="surrogatepass"), _File, str(path)).sector


def _without(path: Path, source: SourceUri, sizes: Sequence[ScreenSize]) -> str:
    """The text of the file without some entries; the rest of the text stays as it is."""
    text = _read(path)
    before, *entries = _ENTRY.split(text)
    regions = _parse(text, path)
    if len(entries) != len(regions):
        raise BadInput(f"{path}: each entry has to begin with a line [[sector]]")
    kept = (
        entry
        for entry, region in zip(entries, regions, strict=True)
        if not region.is_of(source) or region.screen not in sizes
    )
    return before + "".join(kept)


def _entry(region: SavedRegion) -> str:
    """An entry as TOML; strings and lists of numbers are the same in JSON."""
    values = {
        "source": region.source,
        "screen": region.screen,
        "polygon": region.polygon,
        "box": region.box,
        "roi": region.roi,
    }
    lines = (
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key, value in values.items()
        if value is not None
    )
    return "\n".join(("[[sector]]", *lines)) + "\n"


def _write(path: Path, text: str) -> None:
    _parse(text, path)  # a name that TOML cannot hold is refused
    with whole_file(path) as part:
        part.write_text(text, "utf-8")
