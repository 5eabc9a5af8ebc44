"""`sonolite sector`: find, set and save the region of the ultrasound picture on a screen."""

import json
import re
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from devices import BadInput, Box, DeviceStalled, EndOfRecording, NoSignal, Pixels
from devices.capture import SourceUri, open_device
from edge_runtime.files import refuse_unwritable, whole_file
from edge_runtime.screen.flaws import find_flaw
from edge_runtime.screen.outline import Outline, Shape, rectangle_outline
from edge_runtime.screen.region import Region, parse_box
from edge_runtime.screen.saved_regions import (
    SavedRegion,
    ScreenSize,
    forget_regions,
    read_saved_regions,
    require_convex,
    save_region,
    saved_regions_file,
    saved_regions_of,
)
from edge_runtime.sinks.still import STILL_SUFFIXES
from edge_runtime.text import say

SILENCE_TIMEOUT = 10.0
"""Seconds that a source may give no frame."""
OUTLINE_COLOUR = (80, 220, 80)
"""The colour of the outline: blue, green, red."""


@dataclass(frozen=True)
class ScreenSearch:
    """The result of a search in the frames of a source."""

    pixels: Pixels
    """The last screen."""
    outline: Outline | None
    frames: int

    @property
    def screen(self) -> ScreenSize:
        """Width and height."""
        height, width = self.pixels.shape[:2]
        return width, height


def sector(
    source: Annotated[
        str | None,
        typer.Option(
            help="The source, as for `run`, such as 0; without it the saved regions are listed."
        ),
    ] = None,
    set_to: Annotated[
        str | None,
        typer.Option(
            "--set", help="The region: a box x,y,w,h, or corners 'x,y x,y x,y ...' in their order."
        ),
    ] = None,
    roi: Annotated[
        str | None,
        typer.Option(help="The box to classify in the picture, x,y,w,h; --save keeps it."),
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Save the region for this source.")] = False,
    forget_it: Annotated[
        bool, typer.Option("--forget", help="Remove the saved regions of this source.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Save the screen with the outline, such as sector.png or sector.jpg."),
    ] = None,
    frames: Annotated[
        int, typer.Option(min=1, max=1000, help="How many frames to search, such as 60.")
    ] = 60,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the answer to stdout as JSON.")
    ] = False,
) -> None:
    """Find the ultrasound picture on the screen of a source; show, set and save the region.

    `run` uses the region that is saved for the source and for the size of the screen.

    Example: sonolite sector --source v4l2:///dev/video0 --out sector.png --save

    Example: sonolite sector --source 0 --set "400,40 880,40 990,660 290,660" --save
    """
    path = saved_regions_file()
    name = None if source is None else SourceUri(source)
    if name is None:
        if set_to or roi or save or forget_it or out:
            raise BadInput("--source is missing; name the source whose screen is meant")
        _list(path, as_json)
    elif forget_it:
        count = forget_regions(path, name)
        if not count:
            raise BadInput(f"{path}: nothing is saved for {name.key}")
        say(f"{path}: {count} forgotten")
    else:
        if out is not None:
            _refuse_suffix(out)
        search = _search_screen(name, frames)
        if set_to is not None:
            search = replace(search, outline=_parse_outline(set_to, search.screen))
        _report(name, search, set_to is not None, as_json)
        if out is not None:
            _draw(search, out)
        if save:
            _save(path, name, search, None if roi is None else parse_box(roi, "--roi"))


def _search_screen(source: SourceUri, frames: int) -> ScreenSearch:
    """Reads frames as a session does, and returns the outline in them."""
    region = Region()
    pixels, count = None, 0
    with open_device(source) as device:
        until = time.monotonic() + SILENCE_TIMEOUT
        while count < frames:
            try:
                frame = device.read(1.0)
            except EndOfRecording:
                break
            except (DeviceStalled, NoSignal):
                if time.monotonic() > until:
                    raise
                continue
            pixels, count, until = frame.pixels, count + 1, time.monotonic() + SILENCE_TIMEOUT
            region.locate(pixels, keep=frame.timestamp is not None)
    if pixels is None:
        raise BadInput(f"{source.key}: it has no frames")
    return ScreenSearch(pixels, region.outline, count)


def _report(source: SourceUri, search: ScreenSearch, was_set: bool, as_json: bool) -> None:
    """Prints the outline, and the flaw of the picture if there is one."""
    width, height = search.screen
    outline = search.outline
    box = None if outline is None else outline.box
    share = 0.0 if outline is None else outline.area / (width * height)
    picture_flaw = find_flaw(search.pixels, box or Box(0, 0, width, height))
    saved = saved_regions_of(saved_regions_file(), source).get(search.screen)
    if as_json:
        answer = {
            "source": source.key,
            "screen": search.screen,
            "frames": search.frames,
            "region": "set" if was_set else "found",
            "kind": outline and outline.kind,
            "box": box,
            "polygon": outline and outline.polygon,
            "share": round(share, 4),
            "flaw": picture_flaw,
            "saved": saved is not None,
        }
        print(json.dumps(answer))
        return
    print(f"{source.key}: a screen of {width} x {height}, {search.frames} frames")
    if outline is None or box is None:
        print("no ultrasound picture in it")
    else:
        print(f"{outline.kind} in {_text(box)}, {100 * share:.0f} % of the screen")
        if outline.kind is not Shape.RECTANGLE:
            print(" ".join(f"{x},{y}" for x, y in outline.polygon))
    if picture_flaw is not None:
        print(f"it would not be classified: {picture_flaw}")
    if saved is not None:
        print(f"saved: {_described(saved)}")


def _save(path: Path, source: SourceUri, search: ScreenSearch, roi: Box | None) -> None:
    outline = search.outline
    if outline is None:
        raise BadInput(f"{source.key}: no picture was found to save; say where with --set")
    rectangle = outline.kind is Shape.RECTANGLE
    try:
        entry = SavedRegion(
            source=source.key,
            screen=search.screen,
            polygon=None if rectangle else outline.polygon,
            box=outline.box if rectangle else None,
            roi=roi,
        )
    except ValueError as error:
        raise BadInput(f"--save: {error}") from error
    save_region(path, entry)
    say(f"{path}: saved")


def _list(path: Path, as_json: bool) -> None:
    """Prints all saved regions."""
    regions = read_saved_regions(path)
    if as_json:
        print(json.dumps([_entry(region) for region in regions], indent=2))
        return
    for region in regions:
        width, height = region.screen
        print(f"{SourceUri(region.source).key}  {width} x {height}  {_described(region)}")
    if not regions:
        say(f"{path}: nothing is saved; see `sonolite sector --help`")


def _entry(region: SavedRegion) -> dict[str, object]:
    outline = region.outline
    return {
        "source": SourceUri(region.source).key,
        "screen": region.screen,
        "kind": outline and outline.kind,
        "box": outline and outline.box,
        "polygon": outline and outline.polygon,
        "roi": region.roi,
    }


def _described(region: SavedRegion) -> str:
    outline, roi = region.outline, region.roi
    parts = [] if outline is None else [f"{outline.kind} in {_text(outline.box)}"]
    parts += [] if roi is None else [f"judged in {_text(roi)}"]
    return ", ".join(parts)


def _text(box: Box) -> str:
    return ",".join(map(str, box))


def _parse_outline(text: str, screen: ScreenSize) -> Outline:
    """Reads `x,y,w,h` or `x,y x,y x,y ...`. Raises BadInput for other text, or off the screen."""
    words = text.split()
    if len(words) < 3:
        box = parse_box(text, "--set")
        if box.x + box.w > screen[0] or box.y + box.h > screen[1]:
            raise BadInput(f"--set {text}: lies outside the {screen[0]} x {screen[1]} screen")
        return rectangle_outline(box)
    if not all(re.fullmatch(r"\d{1,5},\d{1,5}", word) for word in words):
        raise BadInput(f"--set {text}: corners are needed as x,y x,y x,y ...")
    pairs = (word.split(",") for word in words)
    polygon = tuple((int(x), int(y)) for x, y in pairs)
    try:
        require_convex(polygon, screen)
    except ValueError as error:
        raise BadInput(f"--set {text}: {error}") from error
    return Outline(polygon)


def _refuse_suffix(out: Path) -> None:
    if out.suffix.lower() not in STILL_SUFFIXES:
        raise BadInput(f"--out {out}: a name that ends in {' or '.join(STILL_SUFFIXES)} is needed")
    refuse_unwritable(out)


def _draw(search: ScreenSearch, out: Path) -> None:
    """Saves the last screen with the outline."""
    pixels = search.pixels
    drawn = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels.copy()
    if search.outline is not None:
        corners = np.array(search.outline.polygon, np.int32)
        cv2.polylines(drawn, [corners], True, OUTLINE_COLOUR, 2, cv2.LINE_AA)
    _, content = cv2.imencode(out.suffix, drawn)
    with whole_file(out) as part:
        part.write_bytes(content.tobytes())
    say(f"saved {out}")
