"""XML as annotation tools write it."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path


def read_xml(path: Path) -> ElementTree.Element | None:
    """The root of an XML file; None where it cannot be read."""
    try:
        return ElementTree.parse(path).getroot()  # noqa: S314  expat refuses entity bombs
    except (ElementTree.ParseError, OSError, ValueError, LookupError):  # the last two: encodings
        return None
