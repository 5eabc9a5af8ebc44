"""The pictures of a folder, in the order in which a person would put them."""

import re
from pathlib import Path

from devices.capture.kinds import Kind, kind_of
from devices.errors import BadInput


def list_pictures(folder: Path, recursive: bool = False) -> list[Path]:
    """Images and DICOM files, img_2 before img_10; with `recursive` those of its folders too.

    Links are followed. What is hidden is left out, as are the companions that macOS writes, `._x`.
    Raises BadInput for a folder that cannot be read, and for links that lead in a circle.
    """
    return _list(folder, recursive, ())


def natural(path: Path) -> tuple[tuple[int, int, str], ...]:
    """Sorts names by the numbers in them."""
    parts = re.split(r"(\d+)", path.name.casefold(), flags=re.ASCII)
    return (*((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts),)


def _list(folder: Path, recursive: bool, above: tuple[Path, ...]) -> list[Path]:
    try:
        here = folder.resolve(strict=True)
        if here in above:
            raise BadInput(f"{folder}: links lead in a circle")
        inside = sorted(folder.iterdir(), key=lambda path: (natural(path), path.name))
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read"
        raise BadInput(f"{folder}: {reason}") from error
    pictures = []
    for path in inside:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if recursive:
                pictures += _list(path, recursive, (*above, here))
        elif path.is_file() and kind_of(path) in (Kind.IMAGE, Kind.DICOM):
            pictures.append(path)
    return pictures
