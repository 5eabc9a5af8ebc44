"""What a device sends as its exams is checked: the user of the service could send anything."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from devices import BadInput
from edge_runtime.deploy import exam_archive
from edge_runtime.deploy.exam_archive import parse_exams, unpack_exam


def archive(*members: tuple[str, bytes, str]) -> io.BytesIO:
    """A tar archive of names, kinds (of `tarfile`) and contents, or targets of links."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = content
            elif kind == tarfile.REGTYPE:
                info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    stream.seek(0)
    return stream


FILE, FOLDER = tarfile.REGTYPE, tarfile.DIRTYPE


def test_the_files_of_an_exam_are_written_for_their_owner_alone(tmp_path: Path) -> None:
    out = tmp_path / "exam-1"
    sent = archive(("./", FOLDER, ""), ("./exam.json", FILE, "{}"), ("./pictures/1.png", FILE, "x"))
    unpack_exam(sent, out, "bed-1")
    assert (out / "exam.json").read_text() == "{}"
    assert (out / "pictures" / "1.png").read_text() == "x"
    assert out.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "member",
    [
        ("../up", FILE, "x"),
        ("/etc/planted", FILE, "x"),
        ("a/b/c/d", FILE, "x"),
        (".ssh", FILE, "x"),
        ("a\nb", FILE, "x"),
        ("link", tarfile.SYMTYPE, "/etc/passwd"),
        ("link", tarfile.LNKTYPE, "exam.json"),
        ("pipe", tarfile.FIFOTYPE, ""),
        ("device", tarfile.CHRTYPE, ""),
        ("exam.json", FILE, "again"),
        ("exam.json/x", FILE, "below a file"),
    ],
    ids=lambda member: f"{member[0][:12]!r}",
)
def test_anything_else_is_refused_and_nothing_is_left(
    tmp_path: Path, member: tuple[str, bytes, str]
) -> None:
    with pytest.raises(BadInput, match="bed-1: sends") as refusal:
        unpack_exam(archive(("exam.json", FILE, "{}"), member), tmp_path / "exam-1", "bed-1")
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no archive" * 100, archive().getvalue()[:100]])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadInput, match="bed-1: sends no whole archive"):
        unpack_exam(io.BytesIO(content), tmp_path / "exam-1", "bed-1")


def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path) -> None:
    whole = archive(("exam.json", FILE, "x" * 2000)).getvalue()
    with pytest.raises(BadInput, match="bed-1: sends no whole archive"):
        unpack_exam(io.BytesIO(whole[:1500]), tmp_path / "exam-1", "bed-1")


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exam_archive, "MAX_EXAM_FILES", 2)
    many = archive(*((f"{number}.png", FILE, "x") for number in range(3)))
    with pytest.raises(BadInput, match="more than 2 files"):
        unpack_exam(many, tmp_path / "exam-1", "bed-1")


@pytest.mark.parametrize(
    "answer", ["", "{}", "[1]", json.dumps([{"id": "x" * 9}]), json.dumps([{"id": -1}])]
)
def test_a_list_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(BadInput, match="bed-1: the list of exams: "):
        parse_exams(answer, "bed-1")
