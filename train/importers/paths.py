"""What is refused of the paths in a data set, whatever its layout."""

import os
from collections.abc import Iterable
from pathlib import Path

from devices import BadInput

MAX_MISSING = 0.10
"""Of the images that are listed: where more are not there, the paths are wrong, not some files."""
NAMED = 3
"""Missing images that a refusal names."""


def find_missing(paths: Iterable[Path], data: Path) -> list[Path]:
    """Which of the images of `data` are not there, each once.

    Raises BadInput where they are more than `MAX_MISSING` of the images.
    """
    images = dict.fromkeys(paths)
    missing = [path for path in images if not is_there(path)]
    if len(missing) > MAX_MISSING * len(images):
        folder = data if data.is_dir() else data.parent
        first = ", ".join(os.path.relpath(path, folder) for path in missing[:NAMED])
        more = ", ..." if len(missing) > NAMED else ""
        raise BadInput(
            f"{data}: {len(missing)} of {len(images)} images are missing: {first}{more}; looked "
            f"for in {folder.absolute()}, where the paths begin; move the images or the table, or "
            "correct the paths"
        )
    return missing


def is_there(path: Path) -> bool:
    """Whether `path` is a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def refuse_unwritable(names: Iterable[str]) -> None:
    """Raises BadInput for the first name that cannot be written down."""
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise BadInput(f"{name!r}: rename it, its name is not UTF-8") from None
