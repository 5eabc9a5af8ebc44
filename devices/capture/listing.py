"""The files of a folder: in the order in which people count, without what the system hides there.

A name that begins with a point is hidden; so is the companion `._scan.png` that macOS writes beside
`scan.png` on a foreign disk (AppleDouble, RFC 1740).
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from devices.capture.kinds import Kind, kind_of
from devices.errors import BadInput

MASK_WORDS = "mask|masks|seg|segmentation|gt"
"""What people add to the name of a picture for the file that marks a lesion in it."""
MASK_NAME = re.compile(
    rf"(?P<picture>.+?)[_.\- ](?:{MASK_WORDS})(?:[_\- ]?\d+)?|(?:{MASK_WORDS})[_.\- ](?P<other>.+)",
    re.IGNORECASE | re.DOTALL,
)
MASK_FOLDER = re.compile("masks?|segmentations?", re.IGNORECASE)


def natural(path: Path) -> tuple[object, ...]:
    """A key that sorts `img_2` before `img_10`, and whole folders before their neighbours."""
    return tuple(_natural(part) for part in path.parts), path.parts


def _natural(name: str) -> tuple[str | int, ...]:
    """Text and numbers by turns; the text in small letters."""
    words = re.split(r"(\d+)", name.casefold())
    return tuple(int(word) if place % 2 else word for place, word in enumerate(words))


def list_files(folder: Path, recursive: bool = False) -> list[Path]:
    """The files in `folder`, in natural order; with `recursive` those in all its folders too.

    Links are followed, and a folder that is reached by several ways is entered once. A link that
    leads nowhere counts as a file: whoever opens it says so. Raises BadInput for a folder that
    cannot be read, and where a link leads back to a folder that holds it.
    """
    return sorted(_walk(folder, recursive, (), set()), key=natural)


def _walk(
    folder: Path, recursive: bool, above: tuple[str, ...], entered: set[str]
) -> Iterator[Path]:
    """`above` are the folders that hold this one, `entered` all seen so far, as they really lie."""
    place = os.path.realpath(folder)
    if place in above:
        raise BadInput(f"{folder}: a link that leads back to {place}, which holds it; remove it")
    if place in entered:
        return
    entered.add(place)
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise BadInput(f"{folder}: {error.strerror}") from error
    for name in names:
        path = folder / name
        if path.is_dir():
            if recursive:
                yield from _walk(path, recursive, (*above, place), entered)
        elif path.is_file() or (path.is_symlink() and not path.exists()):
            yield path


def list_pictures(folder: Path, recursive: bool = False) -> list[Path]:
    """The images and DICOM files among `list_files`, by their content first; see `kind_of`.

    Raises BadInput as `list_files` does.
    """
    files = list_files(folder, recursive)
    return [path for path in files if kind_of(path) in (Kind.IMAGE, Kind.DICOM)]


def masks_among(paths: Sequence[Path], folder: Path) -> set[Path]:
    """Which of `paths`, all in `folder`, mark the lesion of a picture among them, by their names.

    `scan_mask.png`, `scan_mask_1.png` and the like beside `scan.png`, and all in a folder `masks`.
    What `folder` itself is called says nothing.
    """
    inner = [path.relative_to(folder) for path in paths]
    names = {(path.parent, path.stem) for path in inner}
    return {path for path, name in zip(paths, inner, strict=True) if _is_mask(name, names)}


def _is_mask(path: Path, names: set[tuple[Path, str]]) -> bool:
    if MASK_FOLDER.fullmatch(path.parent.name):
        return True
    match = MASK_NAME.fullmatch(path.stem)
    return match is not None and (path.parent, match["picture"] or match["other"]) in names
