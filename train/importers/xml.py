"""XML as annotation tools write it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from devices import BadInput
from devices.regular_file import MAX_BYTES, read_regular

MAX_DEPTH = 64
"""Levels of nesting: no annotation has a dozen."""


class _Builder(ElementTree.TreeBuilder):
    """Builds a tree of limited depth: what walks a tree may call itself for each level."""

    depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> ElementTree.Element:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ValueError("nested too deep")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> ElementTree.Element:
        self.depth -= 1
        return super().end(tag)


def read_xml(path: Path, limit: int = MAX_BYTES) -> ElementTree.Element | None:
    """The root of an XML file; None where it cannot be read.

    A file larger than `limit` bytes, or nested deeper than MAX_DEPTH, is not read.
    """
    parser = ElementTree.XMLParser(target=_Builder())  # noqa: S314  expat refuses entity bombs
    try:
        parser.feed(read_regular(path, limit))
        root: ElementTree.Element = parser.close()
    except (BadInput, ElementTree.ParseError, OSError, ValueError, LookupError):
        return None  # the last two: encodings
    return root
