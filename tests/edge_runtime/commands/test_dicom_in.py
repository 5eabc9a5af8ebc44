"""The commands of "DICOM in" in docs/results.md, with a real scanner's program and worklist."""

import json
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.capture.dicom_listen import AWAITED
from devices.capture.phantom import Phantom
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import Exam, Identity, read_decisions, read_exams
from tests.conftest import Shared, free_port, refused, sonolite, wait_until
from tests.devices.capture.dicom_files import write_dicom
from tests.devices.capture.storescu import STILL, panics, send, storescu
from tests.edge_runtime.exams.worklist_server import STUDY, WLMSCPFS, worklist_server, write_step

pytestmark = pytest.mark.skipif(None in (storescu, WLMSCPFS), reason="no dcmtk: apt install dcmtk")
PAGE = (Path(__file__).parents[3] / "docs" / "results.md").read_text().partition("## DICOM in")[2]
LISTEN, REMOTE, OPERATED = re.findall(r"^    sonolite (run .*)$", PAGE, re.MULTILINE)
SENDING = re.findall(r"^    (storescu .*)$", PAGE, re.MULTILINE)
ASKED = re.findall(r"^sonolite (worklist .*)$", PAGE, re.MULTILINE)
SCREENS = [Phantom(live=False).render(6 * index) for index in range(6)]
JANE = {"PatientID": "4711", "PatientName": "Doe^Jane", "StudyInstanceUID": "1.2.826.0.1.1"}
JOHN = {"PatientID": "4712", "PatientName": "Roe^John", "StudyInstanceUID": "1.2.826.0.1.2"}


def write_pictures(folder: Path) -> list[Path]:
    """Two stills of a study, and a clip of another."""
    stills = [
        write_dicom(
            folder / f"still-{number}.dcm",
            SCREENS[number],
            **(STILL | JANE | {"PatientBirthDate": "19800501", "AccessionNumber": "A-17"}),
        )
        for number in range(2)
    ]
    clip = write_dicom(
        folder / "clip.dcm", np.stack(SCREENS[2:]), **JOHN, NumberOfFrames=4, FrameTime=50
    )
    return [*stills, clip]


@pytest.fixture(scope="module")
def arrived(shared: Shared, demo_path: Path) -> Path:
    """The folder of a run to which a scanner sent two studies, and something broken."""

    def make(folder: Path) -> None:
        port, names = free_port(), {"nodule.sonolite": str(demo_path)}
        words = shlex.split(LISTEN.replace("11112", str(port)).replace("arrived", "exams"))
        words = [names.get(word, word) for word in words]
        more = ["--json", "--roi", "167,190,108,100", "--any-picture"]
        with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "edge_runtime", *words, *more],
                cwd=folder,
                stdout=out,
                stderr=err,
            )
            try:
                first, second, clip = write_pictures(folder)
                wait_until(lambda: AWAITED in (folder / "stdout").read_text())
                assert send(port, panics(folder / "broken.dcm"), coding="-xr").returncode != 0
                (line,) = SENDING
                sent = line.replace("11112", str(port)).replace("still.dcm", str(first))
                assert subprocess.run(shlex.split(sent), check=False).returncode == 0
                assert send(port, second, clip).returncode == 0
                wait_until(lambda: (folder / "stdout").read_text().count("object 3") == 4)
                process.send_signal(signal.SIGINT)
                assert process.wait(60) == 0
            finally:
                process.kill()
                process.wait()

    return shared("dicom-arrived", make)


@pytest.fixture(scope="module")
def results(arrived: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (arrived / "stdout").read_text().splitlines()]


def test_every_frame_is_judged_and_a_wait_is_no_picture(results: list[dict[str, Any]]) -> None:
    first, *judged = results
    assert (first["state"], first["reason"], first["frame"]) == ("SEARCHING", AWAITED, None)
    assert [result["file"] for result in judged] == ["object 1", "object 2", *["object 3"] * 4]
    assert [result["timestamp"] for result in judged] == [None, None, 0.0, 0.05, 0.1, 0.15]
    assert [result["state"] for result in judged] == ["LIVE"] * 6
    assert all(len(result["nodules"]) == 1 for result in judged)


def test_a_clip_owes_nothing_to_the_pictures_before_it(results: list[dict[str, Any]]) -> None:
    for result in (results[1], results[2], results[3]):
        (nodule,) = result["nodules"]
        assert nodule["smoothed"] == nodule["probability"]


def test_each_study_is_an_exam(arrived: Path) -> None:
    with closing(open_exams(arrived / "exams")) as connection:
        exams: list[Exam] = read_exams(connection, None)
        files = [
            {decision.file for decision in read_decisions(connection, exam.id)} for exam in exams
        ]
    jane = Identity("4711", "Doe^Jane", "A-17", "1980-05-01", "1.2.826.0.1.1")
    assert [exam.identity for exam in exams] == [
        jane,
        Identity("4712", "Roe^John", study="1.2.826.0.1.2"),
    ]
    assert [exam.ended is not None for exam in exams] == [True, True]
    assert files == [{"object 1", "object 2"}, {"object 3"}]


def test_a_broken_object_is_told_at_the_end(arrived: Path) -> None:
    told = (arrived / "stderr").read_text()
    assert "note: an object was refused: frame 0 is missing or damaged" in told
    assert "Traceback" not in told


def test_nobody_is_named_in_what_a_run_prints(arrived: Path) -> None:
    printed = (arrived / "stdout").read_text() + (arrived / "stderr").read_text()
    for word in ("4711", "4712", "Doe", "Roe", "1.2.826.0.1.1", "1.2.826.0.1.2", "A-17"):
        assert word not in printed


def test_the_other_commands_of_the_page_say_who_may_send() -> None:
    from devices.capture.dicom_listen import parse_listen
    from devices.capture.source_uri import SourceUri

    words = shlex.split(REMOTE)
    settings = parse_listen(SourceUri(words[words.index("--source") + 1]))
    assert settings.callers == ("CART1", "CART2")
    assert settings.admits_host("192.168.1.7")
    assert not settings.admits_host("192.168.2.7")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--record", "frames"), "--record: the pictures that are sent"),
        (("--exam", "exams", "--exam-id", "1"), "--exam-id: the pictures that are sent"),
        (("--worklist", "127.0.0.1:104"), "--worklist needs --exam and --view"),
        (("--exam", "exams", "--view", "127.0.0.1:0", "--worklist", "x"), "HOST:PORT is expected"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str], why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    source = f"dicom-listen:{free_port()}"
    refused(sonolite("run", demo_path, "--source", source, *more), why)


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., Any]:
    """The command of the page, asked of the real server; `asked("--json")` adds words."""
    write_step(tmp_path, "one")
    (line,) = ASKED

    def ask(*more: str) -> Any:
        with worklist_server(tmp_path) as port:
            return sonolite(*shlex.split(line.replace(":104", f":{port}")), *more)

    return ask


def test_the_worklist_is_listed(asked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    done = asked()
    (line,) = [line for line in done.stdout.splitlines() if "4711" in line]
    for word in ("08:30", "Wang Xiao", "1980-05-01", "A-17", "Thyroid"):
        assert word in line
    assert (done.code, done.stderr) == (0, "")


def test_the_worklist_as_json(asked: Callable[..., Any]) -> None:
    (step,) = json.loads(asked("--json").stdout)
    assert step["identity"]["study"] == STUDY


def test_a_day_without_examinations_is_told(asked: Callable[..., Any]) -> None:
    done = asked("--day", "2001-01-01")
    assert (done.code, done.stdout, done.stderr) == (0, "", "no examination is scheduled\n")


def test_a_worklist_that_is_away_is_one_line() -> None:
    done = sonolite("worklist", f"127.0.0.1:{free_port()}")
    assert (done.code, done.stdout) == (3, "")
    assert re.fullmatch(r"sonolite: worklist 127.0.0.1:\d+: Connection refused\n", done.stderr)


def test_a_day_that_is_none_is_refused() -> None:
    refused(sonolite("worklist", "127.0.0.1:104", "--day", "tomorrow"), "--day tomorrow")
