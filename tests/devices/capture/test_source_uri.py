"""The name of a source tells where it is, and never a password."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import BadInput
from devices.capture.source_uri import WITHHELD, SourceUri, without_secrets

SCHEMES = st.sampled_from(["rtsp", "rtsps", "http", "https", "igtl", "ftp"])
HARD = st.text("ab/?#@:%&=$", min_size=1).map(lambda word: f"hunter{word}hunter")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("0", "0"),
        ("sweep.mp4", "sweep.mp4"),
        ("scans/sweep one.mp4", "scans/sweep one.mp4"),
        ("phantom:?frames=240", "phantom:?frames=240"),
        ("script:frames 2, unplug", "script:frames 2, unplug"),
        ("v4l2:///dev/video0?size=640x480", "v4l2:///dev/video0"),
        ("rtsp://user:pw@scanner:554", "rtsp://scanner:554"),
        ("rtsp://user:pw@scanner:554/", "rtsp://scanner:554"),
        ("RTSPS://user:pw@[fe80::1]:554?pw", "rtsps://[fe80::1]:554"),
        ("rtsp://user:pw@scanner/live?pw=1", "rtsp://scanner/..."),
        ("rtsp://scanner/~53d1", "rtsp://scanner/..."),
        ("http://me:p/w@scanner/live", "http://..."),
        ("rtsp:/user:pw@host/live", WITHHELD),
        ("user:pw@host/live", WITHHELD),
        ("host/live?pw=1", WITHHELD),
        ("v4l2://user:pw@/dev/video0", "v4l2://..."),
        ("phantom:?pw=hunter2", "phantom:..."),
    ],
)
def test_a_source_is_named_by_where_it_is(text: str, name: str) -> None:
    assert str(SourceUri(text)) == name


def test_a_file_with_any_name_is_named_whole(tmp_path: Path) -> None:
    path = tmp_path / "a@b: c?.mp4"
    path.touch()
    assert str(SourceUri(str(path))) == str(path)
    assert SourceUri(str(path)).key == str(path)


@given(
    SCHEMES, HARD, st.sampled_from(["//me:{}@host/live", "//host/{}", "//host?pw={}", "/me:{}@h"])
)
def test_no_name_tells_a_password(scheme: str, password: str, form: str) -> None:
    source = SourceUri(f"{scheme}:{form.format(password)}")
    for name in (str(source), repr(source), f"{source}", source.key, f"{source!r:>50}"):
        assert "hunter" not in name


@given(st.text(max_size=60))
def test_any_text_has_one_name(text: str) -> None:
    source = SourceUri(text)
    assert str(SourceUri(source)) == str(source)
    if "://" in text:
        assert SourceUri(source.key).key == source.key


def test_two_streams_of_a_host_have_two_keys() -> None:
    one, other = (SourceUri(f"rtsp://me:pw@host/{name}") for name in ("a", "b"))
    assert one.key != other.key
    assert one.key == SourceUri("rtsp://you@host/a?x=1").key


def test_only_a_key_has_a_mark_of_the_path_by_which_a_password_could_be_guessed() -> None:
    one, other = (SourceUri(f"rtsp://host/{word}") for word in ("1234", "5678"))
    assert str(one) == str(other) == "rtsp://host/..."
    assert "~" in one.key


def test_it_is_in_no_file() -> None:
    source = SourceUri("rtsp://me:hunter2@host")
    for write in (json.dumps, pickle.dumps):
        with pytest.raises(TypeError):
            write(source)


def test_a_variable_stands_for_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    source = SourceUri("rtsp://me:${CAMERA_PASSWORD}@host/live")
    monkeypatch.setenv("CAMERA_PASSWORD", "p/w@$")
    assert source.reveal() == "rtsp://me:p%2Fw%40%24@host/live"
    monkeypatch.delenv("CAMERA_PASSWORD")
    with pytest.raises(BadInput, match="CAMERA_PASSWORD is not set"):
        source.reveal()


def test_words_of_a_command_line_are_hidden_in_a_message() -> None:
    words = ["--source=rtsp://me:hunter2@host", "rtsp:/me:hunter2@other", "pi@bed-1"]
    line = without_secrets(f"no {words[1]} and {words[0][9:]} of {words[2]}", words)
    assert line == f"no {WITHHELD} and rtsp://host of pi@bed-1"
