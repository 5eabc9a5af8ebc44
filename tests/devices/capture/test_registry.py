"""One list of sources: what the documents, the help and the refusals say comes from there."""

import re
import sys
from pathlib import Path

import pytest

from devices import BadInput
from devices.capture import open_device
from devices.capture.registry import (
    FILES,
    FOLDER,
    LIBRARIES,
    RECORD_FOLDER,
    SCHEMES,
    Library,
    Source,
    prefixes,
    scheme_of,
)
from tests.conftest import sonolite

DOCS = Path(__file__).parents[3] / "docs" / "sources.md"


def row(source: Source) -> str:
    """Of the table in the documents."""
    library = source.library
    needs = f"; `{library.cure}`" if library is not None and library.extra is not None else ""
    live = "live" if source.live else "recording"
    return f"| `{source.example}` | {source.about}{needs} | {live} |"


def test_the_table_of_sources_is_that_of_the_documents() -> None:
    rows = [row(source) for source in (*SCHEMES, *FILES.values(), FOLDER, RECORD_FOLDER)]
    assert "\n".join(rows) in DOCS.read_text()


def test_a_scheme_is_known_by_its_beginning() -> None:
    for source in SCHEMES:
        assert source.prefix is not None
        assert scheme_of(source.example) is source
    assert scheme_of("http:x.mp4") is None
    assert scheme_of("rtmp://host") is None
    assert scheme_of("sweep.mp4") is None


def test_an_unknown_scheme_is_told_all_that_are_known() -> None:
    with pytest.raises(BadInput) as refusal:
        open_device("rtmp://host/x")
    assert prefixes() in str(refusal.value)
    assert "https://" in prefixes()


def test_the_help_of_run_names_every_source() -> None:
    shown = re.sub(r"[\s│]", "", sonolite("run", "--help").stdout)
    assert [source.example for source in SCHEMES if source.example not in shown] == []


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.about)
def test_a_library_is_asked_for_only_where_it_is_missing(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.require()
    monkeypatch.setitem(sys.modules, library.modules[-1], None)
    with pytest.raises(BadInput, match=rf"need {library.modules[-1]}: pip install 'sonolite"):
        library.require()


def test_a_part_of_a_package_that_is_not_there_is_missing() -> None:
    library = Library("messages", "absent", ("no_such_package.part",), "absent")
    with pytest.raises(BadInput, match=r"messages need no_such_package.part: pip install"):
        library.require()
