"""The file of sectors: what a person writes, and what is written into it."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devices import BadInput, Box
from devices.capture.source_uri import SourceUri
from edge_runtime.screen.outline import Outline, rectangle_outline
from edge_runtime.screen.saved_regions import (
    SavedRegion,
    forget_regions,
    read_saved_regions,
    save_region,
    save_roi,
    saved_regions_file,
    saved_regions_of,
)

CAMERA = "v4l2:///dev/video0"
POLYGON = ((250, 20), (390, 20), (600, 440), (40, 440))
SECTOR = SavedRegion(CAMERA, (640, 480), polygon=POLYGON, roi=Box(300, 200, 90, 80))
WRITTEN = f"""\
# The scanner in room 4.

[[sector]]
source = "{CAMERA}"
screen = [640, 480]
polygon = [[250, 20], [390, 20], [600, 440], [40, 440]]

[[sector]]
source = "rtsp://scanner/screen"  # by cable
screen = [1280, 720]
box = [100, 50, 800, 600]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "sectors.toml"


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "sectors.toml"
    path.write_text(WRITTEN)
    return path


def test_what_a_person_writes_is_read(written: Path) -> None:
    camera, network = read_saved_regions(written)
    assert camera.outline == Outline(POLYGON)
    assert network.outline == rectangle_outline(Box(100, 50, 800, 600))
    assert network.roi is None


def test_without_a_file_nothing_is_remembered(path: Path) -> None:
    assert read_saved_regions(path) == ()


def test_what_is_remembered_is_read_again(path: Path) -> None:
    save_region(path, SECTOR)
    assert read_saved_regions(path) == (SECTOR,)
    assert saved_regions_of(path, SourceUri(CAMERA)) == {(640, 480): SECTOR}
    assert saved_regions_of(path, SourceUri("other.mp4")) == {}


def test_a_source_and_size_has_one_entry(path: Path) -> None:
    other = SavedRegion(CAMERA, (1280, 720), box=Box(1, 2, 30, 40))
    for its in (SECTOR, other, SavedRegion(CAMERA, (640, 480), box=Box(9, 9, 90, 90))):
        save_region(path, its)
    assert {its.screen: its.box for its in read_saved_regions(path)} == {
        (640, 480): Box(9, 9, 90, 90),
        (1280, 720): Box(1, 2, 30, 40),
    }


def test_what_else_a_person_wrote_stays(written: Path) -> None:
    save_region(written, SECTOR)
    text = written.read_text()
    assert text.startswith("# The scanner in room 4.\n")
    assert "# by cable" in text
    assert len(read_saved_regions(written)) == 2
    assert forget_regions(written, SourceUri(CAMERA)) == 1
    assert "# by cable" in written.read_text()


def test_a_region_of_interest_is_saved_beside_an_outline_and_alone(path: Path) -> None:
    source, roi = SourceUri(CAMERA), Box(9, 9, 50, 50)
    save_region(path, SECTOR)
    save_roi(path, source, (640, 480), roi)
    save_roi(path, source, (320, 240), roi)
    saved = saved_regions_of(path, source)
    assert saved[640, 480] == replace(SECTOR, roi=roi)
    assert (saved[320, 240].roi, saved[320, 240].outline) == (roi, None)
    for screen in saved:
        save_roi(path, source, screen, None)
    assert saved_regions_of(path, source) == {(640, 480): replace(SECTOR, roi=None)}


def test_a_source_with_a_password_is_saved_without_it(path: Path) -> None:
    save_roi(path, SourceUri("rtsp://user:pass@scanner/screen"), (640, 480), Box(9, 9, 50, 50))
    assert "pass" not in path.read_text()


def test_all_of_a_source_is_forgotten(path: Path) -> None:
    save_region(path, SECTOR)
    assert forget_regions(path, SourceUri(CAMERA)) == 1
    assert forget_regions(path, SourceUri(CAMERA)) == 0
    assert read_saved_regions(path) == ()


@pytest.mark.parametrize(
    ("was", "wrong", "says"),
    [
        ("source", "sauce", "sector[0]"),
        ("[640, 480]", "[640]", "sector[0].screen"),
        ("[640, 480]", "[640, -480]", "sector[0].screen[1]"),
        ('"rtsp://scanner/screen"', "7", "sector[1].source"),
        ("[100, 50, 800, 600]", '[100, 50, 800, "6"]', "sector[1].box"),
        ("[100, 50, 800, 600]", "[1000, 50, 800, 600]", "sector[1]: "),
        ("[100, 50, 800, 600]", "[100, 50, 800, 4]", "from 8 pixels"),
        ("box = [100, 50, 800, 600]", "", "polygon, box or roi is needed"),
        ("box = ", "polygon = [[0, 0], [9, 0], [0, 9]]\nbox = ", "polygon and box exclude"),
        ("[390, 20], [600, 440]", "[600, 440], [390, 20]", "not convex"),
        ("[600, 440]", "[640, 440]", "sector[0]: "),
        (", [600, 440], [40, 440]]", ", [390, 24], [250, 24]]", "narrower than 8"),
        (", [390, 20], [600, 440], [40, 440]]", "]", "sector[0].polygon"),
        ("[[sector]]", "[[sectors]]", "sectors"),
        ("[[sector]]", "[[sector", ""),
    ],
)
def test_a_wrong_entry_is_named(written: Path, was: str, wrong: str, says: str) -> None:
    written.write_text(WRITTEN.replace(was, wrong))
    with pytest.raises(BadInput) as error:
        read_saved_regions(written)
    assert str(error.value).startswith(f"{written}: ")
    assert says in str(error.value)


def test_a_file_that_is_no_text_is_refused(written: Path) -> None:
    written.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="not UTF-8"):
        read_saved_regions(written)


def test_a_damaged_file_is_not_written_over(written: Path) -> None:
    written.write_text(WRITTEN + "oops")
    with pytest.raises(BadInput):
        save_region(written, SECTOR)
    assert written.read_text() == WRITTEN + "oops"


def test_entries_without_lines_of_their_own_are_not_rewritten(written: Path) -> None:
    written.write_text(f'sector = [{{source = "{CAMERA}", screen = [64, 48], box = [0, 0, 9, 9]}}]')
    with pytest.raises(BadInput, match="each entry has to begin with a line"):
        save_region(written, SECTOR)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("a file")
    with pytest.raises((BadInput, OSError)):
        save_region(tmp_path / "config" / "sectors.toml", SECTOR)


@given(source=st.text(min_size=1, max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_read_as_it_was_written_or_refused(path: Path, source: str) -> None:
    path.unlink(missing_ok=True)
    sector = SavedRegion(source, (640, 480), box=Box(0, 0, 64, 64))
    try:
        save_region(path, sector)
    except BadInput:
        assert not path.exists()
    else:
        assert read_saved_regions(path) == (sector,)


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda its: its.decode("latin-1")))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "sectors.toml"
    path.write_text(text, "utf-8", "replace", newline="")
    try:
        read_saved_regions(path)
    except BadInput:
        return
    assert set(tomllib.loads(text)) <= {"sector"}


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("0", "v4l2:///dev/video0"),
        ("v4l2:///dev/video0", "v4l2:///dev/video0"),
        ("rtsp://user:pass@scanner/screen?key=1", "rtsp://scanner/~53d1"),
        ("igtl://host:18944", "igtl://host:18944"),
        ("phantom:?seed=3", "phantom:?seed=3"),
        ("sweep.mp4", str(Path("sweep.mp4").resolve())),
    ],
)
def test_a_source_is_called_without_what_is_secret(uri: str, says: str) -> None:
    assert SourceUri(uri).key == says


def test_the_file_lies_beside_the_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert saved_regions_file() == tmp_path / "sonolite" / "sectors.toml"
