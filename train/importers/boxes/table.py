"""The project's own table, a CSV file, read for its boxes; see `train.importers.table`."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from devices import BadInput
from devices.capture.kinds import Kind, kind_of
from train.importers.boxes.marking import Found, Mark, Marking, corners_of
from train.importers.columns import COLUMNS, SIZE_COLUMNS, columns_of
from train.importers.dicom import patient_of
from train.importers.rows import Row, read_rows
from train.importers.table import box_words, frame_of, image_of, part_of
from train.samples import BOX_COLUMNS, size_of

NO_NODULE = frozenset({"", "normal", "none", "empty", "healthy", "negative", "background"}) | {
    f"no{sign}nodule{end}" for sign in ("", " ", "_", "-") for end in ("", "s")
}
"""Labels, in small letters, of a picture that shows no nodule."""


def read_table_boxes(path: Path) -> Found:
    """The pictures of a table; several rows of a picture, or of a frame, are several boxes.

    A row without a box says that the picture shows no nodule where its label is empty or among
    `NO_NODULE`; with another label there is a nodule that nobody has marked, and the picture is
    dropped. The label is not needed. Raises BadInput where there are no columns for a box or none
    is filled in, and as `train.importers.table` does.
    """
    found = Found("table")
    rows = read_rows(path, _columns, COLUMNS)
    found.notes += rows.notes
    if missing := [name for name in BOX_COLUMNS if name not in rows.columns]:
        raise BadInput(
            f"{path}: no column {missing[0]!r}; to learn where nodules are, a table needs "
            f"path,{','.join(BOX_COLUMNS)}, a row for each nodule"
        )
    several: dict[tuple[Path, int], list[Row]] = defaultdict(list)
    for row in rows.rows:
        if not row.cells["path"]:
            raise BadInput(f"{row.where}: the path is empty")
        image = image_of(path.parent, row.cells["path"])
        frame = frame_of(row.cells["frame"], row.where)
        if frame and kind_of(image) not in (Kind.DICOM, Kind.VIDEO):
            raise BadInput(f"{row.where}: frame {frame} of a file that is neither DICOM nor video")
        several[image, frame].append(row)
    boxes = bare = 0
    for (image, frame), own in several.items():
        first = own[0]
        part = part_of(first.cells["split"], first.where)
        for row in own[1:]:
            if part_of(row.cells["split"], row.where) != part:
                raise BadInput(f"{row.where}: {row.cells['path']} stands on two sides of the split")
        boxed = [(row, box_words(row.cells, rows)) for row in own]
        marks = tuple(
            Mark(corners_of(words), row.cells["label"]) for row, words in boxed if any(words)
        )
        unmarked = [row.cells["label"] for row, words in boxed if not any(words)]
        boxes += len(marks)
        hidden = any(label.casefold() not in NO_NODULE for label in unmarked)
        bare += not marks and "" in unmarked
        markings = [
            Marking(
                path=image,
                marks=marks if row is first else (),
                group=row.cells["group"] or patient_of(image),
                frame=frame,
                part=part,
                size=size_of(*(row.cells[name] for name in SIZE_COLUMNS)),
                fault="no box" if hidden else None,
            )
            for row in own
        ]
        found.markings += markings
    if not boxes:
        raise BadInput(
            f"{path}: no row has a box; fill in {','.join(BOX_COLUMNS)}, a row for each nodule"
        )
    if bare:
        found.notes.append(
            f"{bare} pictures have neither a box nor a label; they count as without a nodule"
        )
    return found


def _columns(first_line: Sequence[str], where: str) -> tuple[list[str | None], tuple[str, ...]]:
    return columns_of(first_line, where, needed=("path",))
