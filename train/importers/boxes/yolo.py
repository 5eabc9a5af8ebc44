"""YOLO: a text file for each picture, in folders that a `data.yaml` names.

docs.ultralytics.com/datasets: `images/**` beside `labels/**`; a line is a class and a box as its
centre, width and height, or an outline, all in shares of the picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import yaml

from devices import BadInput
from devices.capture.dicom import read_frame
from devices.capture.image import shown_size
from devices.capture.kinds import Kind, kind_of
from devices.capture.listing import list_files
from train.importers.boxes.files import Pictures, part_of_folder, read_text
from train.importers.boxes.marking import Corners, Found, Mark, Marking, around_flat, numbers
from train.importers.paths import is_there
from train.samples import PART_WORDS, Dropped, Part, Reason

IMAGES, LABELS = "images", "labels"
SUFFIXES = (".yaml", ".yml")
MAX_YAML = 100_000
"""Characters of a data.yaml, which is a page long, or three with a thousand names."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Loads plain values, and refuses `<<`: a few lines that merge would take all memory."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leaves the entries of a mapping as they are; `<<` is then of an unknown type."""


def read_yolo(data: Path, root: Path) -> Found:
    """The pictures of the folders that the YAML file `data` names, or of all in the folder `data`.

    Where the YAML file has a `kpt_shape`, points follow each box. An empty text file says that its
    picture shows no nodule, and so does none; but where a whole folder has none, its pictures are
    dropped, for nobody has marked them. Raises BadInput for a YAML file that cannot be read or
    names nothing.
    """
    found = Found("YOLO")
    names: Mapping[str, str] = {}
    posed = False
    if data.is_file():
        entries = _entries(data)
        names = _names(entries.get("names"))
        posed = "kpt_shape" in entries
        places = [*_places(data, entries, root)]
        if not places:
            raise BadInput(f"{data}: names no folder of pictures under train, val or test")
    else:
        places = [
            (path, part_of_folder(path, root))
            for path in _pictures(data)
            if _label(path) is not None
        ]
    bare = 0
    for _, several in groupby(places, key=lambda place: (place[0].parent, place[1])):
        folder = [*several]
        labels = {path: _label(path) or path.with_suffix(".txt") for path, _ in folder}
        if not any(is_there(label) for label in labels.values()):
            found.dropped += [Dropped(str(path), "no label") for path, _ in folder]
            continue
        for path, part in folder:
            there = is_there(labels[path])
            bare += not there
            marks, fault = _marks(labels[path], path, names, posed) if there else ((), None)
            found.markings.append(Marking(path, marks, part=part, fault=fault))
    if bare:
        found.notes.append(f"{bare} pictures have no label file; they count as without a nodule")
    return found


def is_yaml_of_yolo(path: Path) -> bool:
    """Whether a YAML file names folders of pictures."""
    try:
        return bool({"train", "val", "test"} & {*_entries(path)})
    except BadInput:
        return path.stem == "data"


def _entries(path: Path) -> Mapping[object, object]:
    """What a YAML file says. Raises BadInput where it says nothing that can be read."""
    text = read_text(path)
    if text is None or len(text) > MAX_YAML:
        raise BadInput(f"{path}: not a YAML file in UTF-8 of at most {MAX_YAML:,} characters")
    try:
        entries = yaml.load(text, _Loader)  # noqa: S506  a safe loader
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadInput(f"{path}: not YAML, or nested too deep") from error
    if not isinstance(entries, dict):
        raise BadInput(f"{path}: no entries such as train, val and names")
    return entries


def _names(entry: object) -> dict[str, str]:
    """The names of the classes by number."""
    if isinstance(entry, list):
        entry = dict(enumerate(entry))
    if not isinstance(entry, dict):
        return {}
    return {str(key): str(name) for key, name in entry.items() if isinstance(name, str | int)}


def _places(
    file: Path, entries: Mapping[object, object], root: Path
) -> Iterator[tuple[Path, Part | None]]:
    """The pictures that a data.yaml names, each with its part."""
    stated = entries.get("path")
    for key, named in entries.items():
        part = PART_WORDS.get(str(key))
        if part is None:
            continue
        for entry in named if isinstance(named, list) else [named]:
            if not isinstance(entry, str) or not entry:
                continue
            place = _place(file, stated if isinstance(stated, str) else "", entry, root)
            if place is None:
                raise BadInput(f"{file}: {key}: there is no folder {entry!r}")
            if place.is_dir():
                yield from ((path, part) for path in _pictures(place))
            else:
                yield from ((path, part) for path in _listed(place))


def _place(file: Path, stated: str, entry: str, root: Path) -> Path | None:
    """The folder or the list of pictures that is called `entry`, within `root`.

    `path` is often of the machine that wrote the file, and Roboflow writes `../train/images` for
    `train/images`: what leads nowhere is looked for beside the file.
    """
    inner = Path(*[part for part in Path(entry).parts if part not in ("..", "/")] or ["."])
    bases = (file.parent / stated, file.parent / Path(stated).name, file.parent)
    for place in (*(base / entry for base in bases), *(base / inner for base in bases)):
        try:
            inside = place.resolve().is_relative_to(root.resolve())
            if inside and (place.is_dir() or (place.suffix == ".txt" and place.is_file())):
                return place
        except (OSError, ValueError, RuntimeError):
            continue
    return None


def _listed(file: Path) -> Iterator[Path]:
    """The pictures that a text file names, a line each, from its own folder."""
    text = read_text(file)
    if text is None:
        raise BadInput(f"{file}: not a text file in UTF-8")
    names = [line.strip().replace("\\", "/") for line in text.splitlines() if line.strip()]
    pictures = Pictures(file.parent, list_files(file.parent, recursive=True))
    for name in names:
        yield pictures.find(name, file, file.parent) or file.parent / Path(name).name


def _pictures(folder: Path) -> list[Path]:
    files = list_files(folder, recursive=True)
    return [path for path in files if kind_of(path) in (Kind.IMAGE, Kind.DICOM)]


def _label(path: Path) -> Path | None:
    """The text file of a picture: in `labels` for `images`, or beside it; None where it has none
    and no such folder.
    """
    parts = [*path.parts]
    for place in range(len(parts) - 2, 0, -1):
        if parts[place] == IMAGES:
            label = Path(*parts[:place], LABELS, *parts[place + 1 :]).with_suffix(".txt")
            if Path(*parts[:place], LABELS).is_dir():
                return label
            break
    beside = path.with_suffix(".txt")
    return beside if is_there(beside) else None


def _marks(
    label: Path, path: Path, names: Mapping[str, str], posed: bool
) -> tuple[tuple[Mark, ...], Reason | None]:
    """What a text file marks in a picture, and why it cannot be used.

    Where it is `posed`, points follow the box in each line; they count for nothing.
    """
    text = read_text(label)
    if text is None:
        return (), "unreadable"
    lines = [line.split() for line in text.splitlines() if line.strip()]
    if not lines or not is_there(path):
        return (), None
    try:
        width, height = _size(path)
    except BadInput:
        return (), "unreadable"
    marks = []
    for words in lines:
        shares = shares_of(words[:5] if posed else words)
        if shares is None:
            return (), "not a box"
        left, top, right, bottom = shares
        corners = (left * width, top * height, right * width, bottom * height)
        marks.append(Mark(corners, names.get(words[0], words[0])))
    return tuple(marks), None


def shares_of(words: Sequence[str]) -> Corners | None:
    """The box of a line, in shares of the picture; None for a line that is no box."""
    parsed = numbers([*words])
    if parsed is None:
        return None
    if len(parsed) != 5:
        return around_flat(parsed[1:])
    x, y, w, h = parsed[1:]
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def _size(path: Path) -> tuple[int, int]:
    if kind_of(path) is Kind.DICOM:
        height, width = read_frame(path).shape[:2]
        return width, height
    return shown_size(path)
