"""Videos with a table of boxes: `clip,frame,xmin,ymin,xmax,ymax`, where frames count from 0."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from devices import BadInput
from devices.capture.kinds import Kind, kind_of
from devices.capture.listing import list_files
from train.importers.boxes.files import Pictures, expected
from train.importers.boxes.marking import Found, Mark, Marking, corners_of
from train.importers.columns import trimmed
from train.importers.paths import is_there
from train.importers.rows import read_rows
from train.importers.table import box_words, frame_of, part_of
from train.marked import count_frames
from train.samples import BOX_COLUMNS, Dropped, Part

COLUMNS = ("clip", "frame", *BOX_COLUMNS, "group", "split", "label")
NEEDED = ("clip", "frame", *BOX_COLUMNS)


def read_clips(table: Path) -> Found:
    """Every frame of the clips that a table lists, and of those beside it.

    A frame without a row shows no nodule, nor does one whose row has no box; several rows of a
    frame are several boxes. A clip without any row, in the table's folder, shows none at all. All
    frames of a clip are of one `group`, which is the clip itself where the table names none, and of
    one `split`. Raises BadInput, naming the line, for what cannot be read, and for two groups or
    splits of one clip.
    """
    found = Found("clips with a table of boxes")
    rows = read_rows(table, clip_columns, COLUMNS)
    found.notes += rows.notes
    root = table.parent
    pictures = Pictures(root, list_files(root, recursive=True), (Kind.VIDEO, Kind.DICOM))
    marks: dict[Path, dict[int, list[Mark]]] = {}
    groups: dict[Path, str] = {}
    parts: dict[Path, Part | None] = {}
    names: dict[Path, str] = {}
    for row in rows.rows:
        cells, where = row.cells, row.where
        if not cells["clip"]:
            raise BadInput(f"{where}: the clip is empty")
        path = pictures.find(cells["clip"], table, root) or expected(cells["clip"], root)
        if not cells["frame"]:
            raise BadInput(f"{where}: the frame is empty; they count from 0")
        frame, part = frame_of(cells["frame"], where), part_of(cells["split"], where)
        if groups.setdefault(path, cells["group"]) != cells["group"]:
            raise BadInput(f"{where}: {cells['clip']} is of two groups; a clip is of one")
        if parts.setdefault(path, part) != part:
            raise BadInput(f"{where}: {cells['clip']} stands on two sides of the split")
        names.setdefault(path, cells["clip"])
        in_frame = marks.setdefault(path, {}).setdefault(frame, [])
        words = box_words(cells, rows)
        if any(words):
            in_frame.append(Mark(corners_of(words), cells["label"]))
    bare = [
        path
        for path in pictures.all
        if path not in marks and path.parent == root and kind_of(path) is Kind.VIDEO
    ]
    if bare:
        found.notes.append(f"{len(bare)} clips have no row; they count as without a nodule")
    for path in [*marks, *bare]:
        its_marks = defaultdict(list, marks.get(path, {}))
        group = groups.get(path) or str(path.relative_to(root))
        try:
            count = count_frames(path) if is_there(path) else 1
        except BadInput as error:
            found.dropped.append(Dropped(str(path), "unreadable", str(error)))
            continue
        found.markings += [
            Marking(path, tuple(its_marks[frame]), group, frame, parts.get(path))
            for frame in range(count)
        ]
        if is_there(path):
            beyond = sorted(frame for frame in its_marks if frame >= count)
            found.dropped += [Dropped(f"{path}, frame {frame}", "missing") for frame in beyond]
    return found


def clip_columns(first_line: Sequence[str], where: str) -> tuple[list[str | None], tuple[str, ...]]:
    """As `train.importers.columns.columns_of`, for a table of clips."""
    names = [trimmed(cell) for cell in first_line]
    known = [name if name in COLUMNS else None for name in names]
    for name in COLUMNS:
        if known.count(name) > 1:
            raise BadInput(f"{where}: the column {name!r} is there {known.count(name)} times")
    if missing := [name for name in NEEDED if name not in known]:
        raise BadInput(
            f"{where}: no column {missing[0]!r} in the first line; needed are {','.join(NEEDED)}"
        )
    others = [cell.strip() for cell, name in zip(first_line, known, strict=True) if name is None]
    return known, tuple(cell for cell in others if cell)
