"""`sonolite run --exam` and `sonolite exam` as a user calls them."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer.main

from edge_runtime.bundle.archive import open_bundle
from edge_runtime.cli import command_line
from edge_runtime.exams import recorder as recorder_module
from edge_runtime.exams.recorder import ExamRecorder, open_exam_recorder
from edge_runtime.exams.report import REPORT_NODULES
from edge_runtime.exams.store import own_exams_folder
from tests.conftest import Shared, refused, sonolite, wait_until
from tests.edge_runtime.exams.examples import FOUND, NOISE, result

PATIENT = "PATIENT-4711"


@pytest.fixture(scope="module")
def session(shared: Shared, demo_path: Path) -> Path:
    """A run that kept an exam in `exams`, with what it printed."""

    def make(folder: Path) -> None:
        words = ("--source", "phantom:?frames=70&live=no", "--roi", "167,190,108,100", "--json")
        exam = ("--exam", folder / "exams", "--exam-id", PATIENT, "--any-picture")
        done = sonolite("run", demo_path, *words, *exam)
        assert done.code == 0, done
        (folder / "stderr").write_text(done.stderr)
        (folder / "stdout").write_text(done.stdout)

    return shared("exam-session", make)


@pytest.fixture(scope="module")
def folder(session: Path) -> Path:
    return session / "exams"


@contextmanager
def running(folder: Path, bundle: Path) -> Iterator[ExamRecorder]:
    with open_exam_recorder(folder, open_bundle(bundle), "phantom:", True) as recorder:
        recorder.begin()
        wait_until(lambda: recorder.status().exam)
        yield recorder


def test_a_session_without_an_exam_loads_no_database() -> None:
    code = (
        "import sys; from edge_runtime.cli import command_line; command_line('run'); "
        "print([name for name in sys.modules if 'sqlite' in name or '.exams' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def exam_of(*words: str) -> str | None:
    app: Any = typer.main.get_command(command_line("run"))
    named = ["a.sonolite", "--source", "phantom:"]
    exam = app.commands["run"].make_context("run", [*words, *named]).params["exam"]
    return None if exam is None else str(exam)


def test_the_folder_may_be_left_out() -> None:
    assert exam_of() is None
    assert exam_of("--exam") == str(own_exams_folder())
    assert exam_of("--exam", "--any-picture") == str(own_exams_folder())
    assert exam_of("--exam", "kept") == "kept"


@pytest.mark.parametrize("words", [("--exam-id", "1"), ("--keep-days", "1")])
def test_options_of_an_exam_need_one(demo_path: Path, words: tuple[str, str]) -> None:
    refused(sonolite("run", demo_path, "--source", "phantom:", *words), "need --exam")


OF_RUN = ("run", "a.sonolite", "--source", "phantom:", "--exam", "exams")
OF_DELETE = ("exam", "delete", "--older-than")


@pytest.mark.parametrize("words", [("--keep-days", "1e10"), ("--keep-gigabytes", "inf")])
def test_a_number_that_is_too_large_is_refused(words: tuple[str, str]) -> None:
    refused(sonolite(*OF_RUN, *words), words[0])
    refused(sonolite(*OF_DELETE, "1e10"), "--older-than")


@pytest.mark.parametrize(
    "option", ["--keep-days", "--keep-gigabytes", "--record-limit", "--budget"]
)
def test_a_number_has_to_be_finite(option: str) -> None:
    refused(sonolite(*OF_RUN, option, "nan"), option, "a finite number is needed")


def test_the_age_of_deleted_exams_has_to_be_finite(folder: Path) -> None:
    words = ("--folder", folder)
    refused(sonolite(*OF_DELETE, "nan", *words), "--older-than", "a finite number is needed")


def test_a_run_says_where_the_exam_is(session: Path, folder: Path) -> None:
    assert f"exam 1 is kept in {folder}" in (session / "stderr").read_text()


def test_nobody_is_named_in_what_a_run_prints(session: Path) -> None:
    printed = (session / "stderr").read_text() + (session / "stdout").read_text()
    assert PATIENT not in printed


def test_exams_are_listed(folder: Path) -> None:
    done = sonolite("exam", "list", "--folder", folder, "--json")
    (exam,) = json.loads(done.stdout)
    assert (exam["id"], exam["identity"]["patient_id"], exam["interrupted"]) == (1, PATIENT, False)
    assert exam["provenance"]["bundle"] == "demo"
    table = sonolite("exam", "list", "--folder", folder)
    assert table.code == 0
    assert re.search(rf"ended +{PATIENT} +1 +1 +demo", table.stdout), table.stdout


def test_every_nodule_of_an_exam_is_shown(demo_path: Path, tmp_path: Path) -> None:
    count = REPORT_NODULES + 2
    with open_exam_recorder(tmp_path, open_bundle(demo_path), "phantom:", True) as recorder:
        recorder.begin()
        for frame in range(count):
            recorder.write(result(frame, replace(FOUND, track=frame + 1)), NOISE)
    shown = sonolite("exam", "show", "1", "--folder", tmp_path).stdout
    numbers = re.findall(r"^ *(\d+) .*malignant", shown, re.MULTILINE)
    assert numbers == [str(number) for number in range(1, count + 1)]


def test_an_exam_is_shown(folder: Path) -> None:
    done = sonolite("exam", "show", "1", "--folder", folder)
    assert done.code == 0, done
    assert f"Patient: {PATIENT}" in done.stdout
    assert "Decided by the model demo, version " in done.stdout
    assert "research use only, not for diagnosis" in done.stdout
    record = json.loads(sonolite("exam", "show", "1", "--folder", folder, "--json").stdout)
    (nodule,) = record["nodules"]
    assert nodule["frames"] > 10
    assert [still["nodule"] for still in record["stills"]] == [1]


def test_an_exam_is_exported(folder: Path, tmp_path: Path) -> None:
    done = sonolite("exam", "export", "1", "--folder", folder, "--out", tmp_path / "out")
    assert done.code == 0, done
    assert PATIENT in (tmp_path / "out" / "report.html").read_text()
    assert (tmp_path / "out" / "report.pdf").stat().st_size > 1000


def test_an_anonymous_export_does_not_name_the_patient(folder: Path, tmp_path: Path) -> None:
    words = ("--folder", folder, "--out", tmp_path / "out", "--anonymous", "--fhir")
    done = sonolite("exam", "export", "1", *words)
    assert "may show a name" in done.stderr
    for name in ("report.html", "exam.json", "fhir.json", "decisions.csv"):
        assert PATIENT not in (tmp_path / "out" / name).read_text()


@pytest.mark.parametrize("command", [("show",), ("export", "--out", "x"), ("delete",)])
def test_an_exam_that_is_not_there_is_refused(
    folder: Path, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    refused(sonolite("exam", name, "9", *rest, "--folder", folder), "there is no exam 9")


def test_a_folder_without_exams_is_refused(tmp_path: Path) -> None:
    refused(sonolite("exam", "list", "--folder", tmp_path), "no exams are kept there")


def test_exams_are_deleted(tmp_path: Path, shipped_path: Path) -> None:
    folder = tmp_path / "exams"
    for _ in range(3):
        with running(folder, shipped_path):
            pass
    assert "deleted: 1, 2" in sonolite("exam", "delete", "1", "2", "--folder", folder).stderr
    done = sonolite("exam", "delete", "--older-than", "1", "--folder", folder)
    assert "deleted: none" in done.stderr
    done = sonolite("exam", "delete", "--older-than", "0", "--folder", folder)
    assert "deleted: 3" in done.stderr
    assert json.loads(sonolite("exam", "list", "--folder", folder, "--json").stdout) == []


def test_an_exam_that_runs_is_not_deleted(tmp_path: Path, shipped_path: Path) -> None:
    with running(tmp_path, shipped_path):
        refused(sonolite("exam", "delete", "1", "--folder", tmp_path), "exam 1 is running")
        done = sonolite("exam", "delete", "--older-than", "0", "--folder", tmp_path)
        assert "deleted: none" in done.stderr
        (exam,) = json.loads(sonolite("exam", "list", "--folder", tmp_path, "--json").stdout)
        assert exam["running"]


def test_which_exams_to_delete_has_to_be_said(folder: Path) -> None:
    refused(sonolite("exam", "delete", "--folder", folder), "name either exams or --older-than")
    words = ("delete", "1", "--older-than", "3", "--folder", folder)
    refused(sonolite("exam", *words), "name either exams or --older-than")


def test_a_second_run_does_not_keep_exams_in_the_same_folder(
    tmp_path: Path, shipped_path: Path, demo_path: Path
) -> None:
    with running(tmp_path, shipped_path):
        done = sonolite("run", demo_path, "--source", "phantom:?frames=3", f"--exam={tmp_path}")
    refused(done, "another session keeps exams there")


def test_a_run_that_fails_says_what_was_kept(tmp_path: Path, demo_path: Path) -> None:
    words = ("--source", "phantom:?frames=30&live=no", "--sink", "jsonl:/dev/full")
    kept = ("--exam", tmp_path / "exams", "--record", tmp_path / "record")
    done = sonolite("run", demo_path, *words, *kept)
    assert done.code == 2, done
    *lines, error = done.stderr.strip().splitlines()
    assert "No space left on device" in error
    assert any(line.startswith("recorded ") for line in lines)
    assert f"exam 1 is kept in {tmp_path / 'exams'}" in lines


def test_a_full_disk_does_not_end_the_run(
    small_disk: Path, demo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk has room for the database, and for no picture."""
    monkeypatch.setattr(recorder_module, "END_SECONDS", 0.2)
    room = os.statvfs(small_disk)
    (small_disk / "fill").write_bytes(bytes(room.f_bavail * room.f_frsize - 250_000))
    words = ("--source", "phantom:?frames=70&live=no", "--roi", "167,190,108,100", "--any-picture")
    done = sonolite("run", demo_path, *words, "--exam", small_disk / "exams")
    assert done.code == 0, done
    assert "frames: 70 read" in done.stderr
    assert "the exam is not being written: the disk is full" in done.stderr
    assert "steps of exams were lost" in done.stderr
