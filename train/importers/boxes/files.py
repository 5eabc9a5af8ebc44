"""Finds the pictures that annotations name, and reads the annotations' own files within limits."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from xml.etree.ElementTree import Element

import msgspec

from devices import BadInput
from devices.capture.kinds import Kind, kind_of
from devices.regular_file import read_regular
from train.importers.xml import read_xml
from train.samples import PART_WORDS, Dropped, Part

MAX_MARKS_BYTES = 256_000_000
"""Of one annotation file: 100,000 pictures with their outlines have less."""
NOT_NUMBERS = re.compile(rb"\b(?:NaN|Infinity)\b")
"""What Python writes into JSON, which has no such words."""

T = TypeVar("T")


class Pictures:
    """The pictures of a data set, to be found by the names that annotations give them."""

    def __init__(self, root: Path, files: Iterable[Path], kinds: Iterable[Kind] = tuple(Kind)):
        """Of `files`, all in `root` and its folders, those of the `kinds`."""
        wanted = {*kinds}
        self.root = root
        self.all = [path for path in files if kind_of(path) in wanted]
        self._known = {*self.all}
        self._by_name: dict[str, list[Path]] = defaultdict(list)
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for path in self.all:
            self._by_name[path.name].append(path)
            self._by_stem[path.stem].append(path)

    def find(self, name: str, where: Path, *places: Path) -> Path | None:
        """The picture that an annotation, `where`, calls `name`; None where there is none.

        It is looked for in the `places` first, then by the end of its path in all folders: the
        beginning is often of the machine that wrote the file. Nothing outside the data set is
        found. Raises BadInput where several pictures may be meant.
        """
        parts = _parts(name)
        if not parts:
            return None
        for place in places:
            path = place.joinpath(*parts)
            if path in self._known:
                return path
        found = self._by_name.get(parts[-1]) or self._by_stem.get(parts[-1], [])
        common = {path: _common(path.parts, parts) for path in found}
        best = [path for path in found if common[path] == max(common.values())]
        for place in places:
            if len(best) > 1 and (near := [path for path in best if path.parent == place]):
                best = near
        if len(best) > 1:
            names = " and ".join(str(path) for path in best[:2])
            raise BadInput(f"{where}: {name!r} may be {names}; rename one, and its annotation")
        return best[0] if best else None

    def named_as(self, file: Path) -> Path | None:
        """The picture of the same name as an annotation, but for its suffix, beside it."""
        beside = [path for path in self._by_stem.get(file.stem, []) if path.parent == file.parent]
        return beside[0] if len(beside) == 1 else None


def expected(name: str, place: Path) -> Path:
    """Where a picture that is missing would lie."""
    return place.joinpath(*_parts(name)) if _parts(name) else place / "?"


def _parts(name: str) -> list[str]:
    """The folders and the name of a path that any system wrote, without what leads out of it."""
    parts = PurePosixPath(name.strip().replace("\\", "/")).parts
    return [part for part in parts if part not in ("/", "//", "..") and not part.endswith(":")]


def _common(one: tuple[str, ...], other: list[str]) -> int:
    """How many of the last parts of two paths are the same."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def read_text(path: Path) -> str | None:
    """The text of an annotation; None where it cannot be read, is no UTF-8, or is too large."""
    data = read_bytes(path)
    try:
        return None if data is None else data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def read_bytes(path: Path) -> bytes | None:
    """The content of an annotation; None where it cannot be read, or is too large."""
    try:
        return read_regular(path, MAX_MARKS_BYTES)
    except (BadInput, OSError):
        return None


def read_root(path: Path) -> Element | None:
    """The root of an XML file; None where it cannot be read, or is too large."""
    return read_xml(path, MAX_MARKS_BYTES)


def read_rooted(path: Path, tag: str, dropped: list[Dropped]) -> Element | None:
    """The root of an XML file if it is called `tag`; else None, and why in `dropped`."""
    root = read_root(path)
    if root is None:
        dropped.append(Dropped(str(path), "unreadable"))
    elif root.tag != tag:
        dropped.append(Dropped(str(path), "unknown kind of file"))
        return None
    return root


def read_entries(path: Path, kind: type[T]) -> T | None:
    """A JSON file as `kind`, without entries that it does not have; None where it is another file.

    A NaN, which JSON does not have and Python writes, is read. Large entries that `kind` leaves
    out, such as a picture within the file, are passed over without being held.
    """
    data = read_bytes(path)
    if data is None:
        return None
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        if not NOT_NUMBERS.search(data):
            return None
    try:
        entries: Any = json.loads(data)
        return msgspec.convert(entries, kind)
    except (ValueError, msgspec.ValidationError, RecursionError):
        return None


def part_of_path(path: Path, root: Path) -> Part | None:
    """The part of the split that a path in `root` names: one of its folders, or a word of its name.

    None where it names none, or several.
    """
    words = re.findall("[a-z]+", path.stem.casefold())
    return part_of_folder(path, root) or _only({PART_WORDS.get(word) for word in words})


def part_of_folder(path: Path, root: Path) -> Part | None:
    """The part of the split that the folders of a path in `root` name; None for none or several."""
    inner = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
    return _only({PART_WORDS.get(folder.casefold()) for folder in inner.parts[:-1]})


def _only(parts: set[Part | None]) -> Part | None:
    known = parts - {None}
    return known.pop() if len(known) == 1 else None
