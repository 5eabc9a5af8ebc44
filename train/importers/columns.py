"""Which columns a table has: known ones in any spelling, others by name, and what looks like one.

A column that is passed over in silence loses boxes, patients or the split, and the figures with
them. So a name is trimmed and its capitals count for nothing; a column under another name for what
is known is refused, with the name to give it; and the others are told.
"""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from devices import BadInput
from train.samples import BOX_COLUMNS

SIZE_COLUMNS = ("width", "height")
COLUMNS = ("path", "label", *BOX_COLUMNS, "group", "frame", "split", *SIZE_COLUMNS)
"""`width` and `height` are those of the picture that the box was drawn in."""

_NUMBER = "(?:id|ids|no|nr|num|number|name|key|code|uid|identifier|index|idx|instanceuid)?"
OTHER_NAMES = {
    "path": "(?:file|image|img|picture|photo|scan|dicom)s?(?:paths?|file|names?|filename|uri|url)?"
    "|(?:file|full|rel|relative|abs|absolute)paths?|paths|url|uri",
    "label": "class(?:name|label|id)?|classes|labels?(?:name|id)?|categor(?:y|ies)|diagnos[ie]s"
    "|target|pathology|groundtruth|outcome|malignan(?:t|cy)|y",
    "xmin": "x|x0|x1|left|minx|bbox(?:x|x0|x1|left)|b?box(?:es)?|roi|boundingbox",
    "ymin": "y0|y1|top|miny|bbox(?:y|y0|y1|top)",
    "xmax": "x2|right|maxx|bbox(?:x2|right|w|width)|w|boxw(?:idth)?",
    "ymax": "y2|bottom|maxy|bbox(?:y2|bottom|h|height)|h|boxh(?:eight)?",
    "group": "(?:patient|subject|case|study|exam|examination|person|participant|individual|series"
    f"|sweep|video|clip|group|sequence|accession|mrn|pid)s?{_NUMBER}",
    "frame": "(?:frame|slice)s?(?:no|nr|num|number|id|index|idx)?",
    "split": "(?:data)?(?:sub)?sets?|folds?|partitions?|parts?|usage|splits?(?:name)?"
    "|traintest|istrain|istest",
}
"""By known column: the other names that people give it, without capitals, spaces and signs. `y` is
a label where no box is meant, and either way it is refused."""
CLOSE = 0.8
"""Likeness of two words from which one may be the other misspelt (`difflib`)."""


def columns_of(
    first_line: Sequence[str], where: str, needed: Sequence[str] = ("path", "label")
) -> tuple[list[str | None], tuple[str, ...]]:
    """The known column, or None, of each cell of a table's first line; and the names of the others.

    Raises BadInput where one of the `needed` is missing, where a column is there twice, and where
    the name of one that is not known looks like one that is known and not there.
    """
    names = [trimmed(cell) for cell in first_line]
    known = [name if name in COLUMNS else None for name in names]
    present = {name for name in known if name is not None}
    for name in present:
        if known.count(name) > 1:
            raise BadInput(f"{where}: the column {name!r} is there {known.count(name)} times")
    others = [cell.strip() for cell, name in zip(first_line, known, strict=True) if name is None]
    for cell in others:
        likeness = looks_like(cell)
        if likeness is not None and likeness not in present:
            raise BadInput(
                f"{where}: the column {cell!r} looks like {likeness!r}; rename it to that, or to "
                f"something else if it is not; known are {', '.join(COLUMNS)}"
            )
    if missing := {*needed} - present:
        raise BadInput(f"{where}: no column {min(missing, key=COLUMNS.index)!r} in the first line")
    return known, tuple(cell for cell in others if cell)


def looks_like(cell: str) -> str | None:
    """The known column that a name in a table's first line may stand for."""
    word = re.sub(r"[\W_]", "", cell.casefold())
    for corner in BOX_COLUMNS:
        if re.fullmatch(f"(?:b?box|bndbox|roi)?{corner}", word):
            return corner
    for name, pattern in OTHER_NAMES.items():
        if word == name or re.fullmatch(pattern, word):
            return name
    close = get_close_matches(word, [*OTHER_NAMES], n=1, cutoff=CLOSE)
    return close[0] if close else None


def trimmed(cell: str) -> str:
    """A name in a first line without what surrounds it unseen, in small letters."""
    return cell.strip(" \t\r\n\v\f\xa0\ufeff\u200b\u202f'\"").casefold()
