"""What kind of file a recording is, by its first bytes; its name counts where they say nothing."""

import os
from enum import Enum
from pathlib import Path

IMAGES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
DICOM = frozenset({".dcm", ".dicom", ".ima"})
VIDEOS = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"})
"""What the names of image files, of DICOM files, and of videos end in, in small letters."""

RECORD_MANIFEST = "sonolite-record.json"
"""The file by which a folder is the record of a session."""


class Kind(Enum):
    """What reads a file."""

    IMAGE = "image"
    DICOM = "DICOM file"
    VIDEO = "video"


HEAD = 132
"""Bytes that are read: the preamble of a DICOM file and its prefix (PS3.10, 7.1)."""
MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (128, b"DICM", Kind.DICOM),
    (0, b"\xff\xd8\xff", Kind.IMAGE),
    (0, b"\x89PNG\r\n\x1a\n", Kind.IMAGE),
    (0, b"II*\0", Kind.IMAGE),
    (0, b"MM\0*", Kind.IMAGE),
    (0, b"GIF8", Kind.IMAGE),
    (8, b"WEBP", Kind.IMAGE),
    (4, b"ftyp", Kind.VIDEO),
    (8, b"AVI ", Kind.VIDEO),
    (0, b"\x1aE\xdf\xa3", Kind.VIDEO),
)
"""The offset of the bytes by which a kind of file is known. A DICOM file may begin like a TIFF, so
that it stands first; BMP has too short a mark to be believed without its name."""


def kind_of(path: Path) -> Kind | None:
    """The kind of file `path`; None where neither its first bytes nor its name tell one."""
    try:
        head = b""
        if path.is_file():  # a pipe would wait for a writer
            with path.open("rb") as file:
                head = file.read(HEAD)
    except (OSError, ValueError):
        head = b""
    for offset, mark, kind in MAGIC:
        if head[offset : offset + len(mark)] == mark:
            return kind
    suffix = path.suffix.lower()
    for suffixes, kind in ((IMAGES, Kind.IMAGE), (DICOM, Kind.DICOM), (VIDEOS, Kind.VIDEO)):
        if suffix in suffixes:
            return kind
    return None


def is_record(folder: Path) -> bool:
    """Whether a folder is the record of a session."""
    return os.path.lexists(folder / RECORD_MANIFEST)
