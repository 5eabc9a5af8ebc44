"""CVAT's own XML, for images and for video (docs.cvat.ai, formats: CVAT for image, for video)."""

from collections.abc import Sequence
from math import cos, radians, sin
from pathlib import Path
from xml.etree.ElementTree import Element

from devices import BadInput
from devices.capture.kinds import Kind, kind_of
from train.importers.boxes.files import Pictures, expected, part_of_folder, read_rooted
from train.importers.boxes.marking import (
    Corners,
    Found,
    Mark,
    Marking,
    around,
    corners_of,
    corners_of_sides,
    number,
    numbers,
    told_unboxed,
)
from train.marked import count_frames
from train.samples import PART_WORDS, Dropped, size_of

BOX = ("xtl", "ytl", "xbr", "ybr")
SHAPES = ("box", "polygon", "ellipse", "mask")
"""What encloses something; `cuboid`, `skeleton` and `tag` do not, nor do the next."""
UNBOXED = ("polyline", "points")
TASK = ("meta/task", "meta/job", "meta")
"""Where a file says what it is about, by rank."""
STEP = "step="


def read_cvat(files: Sequence[Path], root: Path, listed: Sequence[Path]) -> Found:
    """The pictures and clips of CVAT files; `listed` are the files in `root` and its folders.

    An image without a shape shows no nodule, and so does a frame of a clip without a box, or with
    one that is `outside`. A clip is the video that the file names, or the only one that is there;
    its frames are those that were annotated (`start_frame`, `stop_frame`, `frame_filter`).
    """
    pictures = Pictures(root, listed)
    found = Found("CVAT")
    unboxed = 0
    for file in files:
        annotations = read_rooted(file, "annotations", found.dropped)
        if annotations is None:
            continue
        for image in annotations.iter("image"):
            _image(image, file, pictures, found)
        if annotations.find("track") is not None:
            _clip(annotations, file, pictures, found)
        unboxed += sum(shape.tag in UNBOXED for shape in annotations.iter())
    if unboxed:
        found.notes.append(told_unboxed(unboxed))
    return found


def _image(image: Element, file: Path, pictures: Pictures, found: Found) -> None:
    name = image.get("name") or ""
    places = (file.parent, file.parent / "images")
    subset = PART_WORDS.get((image.get("subset") or "").casefold())
    path = pictures.find(name, file, *places) or expected(name, file.parent)
    found.markings.append(
        Marking(
            path=path,
            marks=tuple(
                Mark(_corners(shape), shape.get("label") or "")
                for shape in image
                if shape.tag in SHAPES
            ),
            part=subset or part_of_folder(path, pictures.root),
            size=size_of(image.get("width") or "", image.get("height") or ""),
        )
    )


def _clip(annotations: Element, file: Path, pictures: Pictures, found: Found) -> None:
    """The frames of the clip of a file with tracks."""
    task = next((place for place in map(annotations.find, TASK) if place is not None), annotations)
    path = _video(annotations, task, file, pictures)
    if path is None:
        found.dropped.append(Dropped(str(file), "missing"))
        return
    try:
        count = count_frames(path)
    except BadInput as error:
        found.dropped.append(Dropped(str(path), "unreadable", str(error)))
        return
    start, stop = _whole(task, "start_frame", 0), _whole(task, "stop_frame", count - 1)
    chosen = (task.findtext("frame_filter") or "").replace(" ", "")
    step = number(chosen.removeprefix(STEP)) if chosen.startswith(STEP) else 1
    frames = range(start, min(stop, count - 1) + 1, max(1, int(step or 1)))
    marks: dict[int, list[Mark]] = {frame: [] for frame in frames}
    for track in annotations.iter("track"):
        for shape in track:
            frame = _frame(shape)
            if shape.tag not in SHAPES or shape.get("outside") == "1":
                continue
            if frame is None or frame not in marks:
                found.dropped.append(Dropped(f"{path}, frame {shape.get('frame')}", "missing"))
                continue
            marks[frame].append(Mark(_corners(shape), track.get("label") or ""))
    size = size_of(*(task.findtext(f"original_size/{side}") or "" for side in ("width", "height")))
    group, part = str(path.relative_to(pictures.root)), part_of_folder(path, pictures.root)
    found.markings += [
        Marking(path, tuple(in_frame), group, frame, part, size)
        for frame, in_frame in marks.items()
    ]


def _video(annotations: Element, task: Element, file: Path, pictures: Pictures) -> Path | None:
    """The clip that a file is about: the one that it names, or else the only one."""
    names = [place.findtext("source") or "" for place in (task, annotations)]
    names += [annotations.findtext("meta/source") or "", task.findtext("name") or ""]
    for name in names:
        path = pictures.find(name, file, file.parent)
        if path is not None and kind_of(path) in (Kind.VIDEO, Kind.DICOM):
            return path
    clips = [path for path in pictures.all if kind_of(path) is Kind.VIDEO]
    return clips[0] if len(clips) == 1 and not any(names[:3]) else None


def _whole(task: Element, name: str, otherwise: int) -> int:
    """The whole number in an entry of a task; `otherwise` where there is none."""
    parsed = _whole_number((task.findtext(name) or "").strip())
    return otherwise if parsed is None else parsed


def _frame(shape: Element) -> int | None:
    """The frame of a shape; None where it names none."""
    return _whole_number(shape.get("frame") or "")


def _whole_number(word: str) -> int | None:
    parsed = number(word) if word.isascii() and word.isdecimal() else None
    return None if parsed is None else int(parsed)


def _corners(shape: Element) -> Corners | None:
    """The box around a shape; None where it is none."""
    if shape.tag == "polygon":
        pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
        points = [numbers(pair, 2) for pair in pairs]
        known = [point for point in points if point is not None]
        return around(known) if len(known) == len(points) >= 3 else None
    if shape.tag == "mask":
        sides = ("left", "top", "width", "height")
        return corners_of_sides([shape.get(name) for name in sides])
    if shape.tag == "ellipse":
        ellipse = numbers([shape.get(name) for name in ("cx", "cy", "rx", "ry")], 4)
        if ellipse is None or min(ellipse[2:]) < 0:
            return None
        angle = number(shape.get("rotation") or 0)
        return None if angle is None else _turned_ellipse(ellipse, radians(angle))
    corners = corners_of([shape.get(name) for name in BOX])
    angle = number(shape.get("rotation") or 0)
    if corners is None or angle is None:
        return None
    return _turned(corners, radians(angle)) if angle else corners


def _turned(corners: Corners, angle: float) -> Corners:
    """The box around a box that is turned about its middle."""
    left, top, right, bottom = corners
    width, height = right - left, bottom - top
    across = abs(width * cos(angle)) + abs(height * sin(angle))
    down = abs(width * sin(angle)) + abs(height * cos(angle))
    x, y = (left + right) / 2, (top + bottom) / 2
    return (x - across / 2, y - down / 2, x + across / 2, y + down / 2)


def _turned_ellipse(ellipse: Sequence[float], angle: float) -> Corners:
    x, y, across, down = ellipse
    right = ((across * cos(angle)) ** 2 + (down * sin(angle)) ** 2) ** 0.5
    lower = ((across * sin(angle)) ** 2 + (down * cos(angle)) ** 2) ** 0.5
    return (x - right, y - lower, x + right, y + lower)
