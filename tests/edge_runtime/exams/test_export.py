"""An exam as files: tables, lossless pictures, and a report of one page that runs nothing."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from devices import BadInput
from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams import recorder as recorder_module
from edge_runtime.exams.export import export_exam, without_identity
from edge_runtime.exams.page import exam_page
from edge_runtime.exams.pdf import MISSING_LETTERS, exam_pdf, foot_lines
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.exams.report import (
    REPORT_NODULES,
    REPORT_PICTURES,
    ExamReport,
    draw_still,
    make_report,
)
from edge_runtime.exams.store import (
    Identity,
    still_path,
)
from edge_runtime.results.result import NOTICE
from tests.conftest import wait_until
from tests.edge_runtime.exams.conftest import parts_of
from tests.edge_runtime.exams.examples import ABSTAINED, FOUND, NOISE, result

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = "<script>alert(1)</script>"
WHO = Identity(EVIL, "Weiß^Zoë^李娜", "=1+1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, found_bundle: Bundle) -> Path:
    """An exam of nine nodules with kept pictures and abstentions, of a file with an evil name."""
    folder = tmp_path_factory.mktemp("kept") / "exams"
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setattr(recorder_module, "COMMIT_PAUSE", 0.01)
        recorder = stack.enter_context(open_exam_recorder(folder, found_bundle, EVIL, live=False))
        recorder.begin(WHO)
        for frame in range(180):
            track = frame // 20 + 1
            nodule = replace(FOUND if frame % 20 > 3 else ABSTAINED, track=track)
            told = replace(result(frame, nodule), file="=cmd.mp4")
            recorder.write(told, NOISE)
            if frame % 40 == 10:
                recorder.keep_still(told, NOISE)
            if frame % 10 == 0:  # a best picture of each nodule is written in time
                wait_until(lambda: not recorder.status().waiting)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> ExamReport:
    return make_report(folder, *parts_of(folder))


@pytest.fixture(scope="module")
def exported(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "exam"
    assert export_exam(folder, out, *parts_of(folder)) == []
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_folder_holds_report_tables_and_pictures(exported: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {
        *("report.html", "report.pdf", "exam.json", "decisions.csv", "nodules.csv", "pictures")
    }


def test_a_picture_is_the_one_that_was_kept(exported: Path, folder: Path) -> None:
    for still in parts_of(folder)[2]:
        path = exported / "pictures" / f"{still.number}.png"
        assert path.read_bytes() == still_path(folder, 1, still.number).read_bytes()
        saved = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert saved is not None
        assert np.array_equal(saved, NOISE)
        drawn = cv2.imread(str(path.with_name(f"{still.number}_overlay.png")))
        assert drawn is not None
        assert drawn.shape[0] > NOISE.shape[0]


def test_a_table_has_every_decision(exported: Path, folder: Path) -> None:
    table = rows(exported / "decisions.csv")
    assert [int(row["frame"]) for row in table] == [each.frame for each in parts_of(folder)[3]]
    assert float(table[0]["probability_malignant"]) == 0.8
    assert (table[0]["low_malignant"], table[0]["label"], table[0]["reason"]) == (
        "0.7",
        "",
        "too close to the threshold",
    )


def test_a_table_has_every_nodule(exported: Path) -> None:
    table = rows(exported / "nodules.csv")
    assert [row["nodule"] for row in table] == [*"123456789"]
    assert {row["frames"] for row in table} == {"20"}


def test_no_cell_is_a_formula(exported: Path) -> None:
    for name in ("decisions.csv", "nodules.csv"):
        assert {row["file"] for row in rows(exported / name)} == {"'=cmd.mp4"}


def test_a_table_without_a_row_has_its_head(exported: Path, folder: Path, tmp_path: Path) -> None:
    exam, *_ = parts_of(folder)
    export_exam(folder, tmp_path / "out", exam, [], [], [])
    for name in ("decisions.csv", "nodules.csv"):
        head = (exported / name).read_text(encoding="utf-8").splitlines()[0]
        assert (tmp_path / "out" / name).read_text(encoding="utf-8").splitlines() == [head]


def test_json_has_identity_model_nodules_and_stills(exported: Path) -> None:
    record = json.loads((exported / "exam.json").read_text(encoding="utf-8"))
    assert record["identity"]["name"] == WHO.name
    assert record["provenance"]["digest"]
    assert len(record["nodules"]) == record["nodule_count"] == 9
    kept = [still for still in record["stills"] if still["kept"] == "person"]
    assert len(kept) == record["kept_by_person"] == 5
    assert len(record["stills"]) == record["picture_count"]
    assert {still["result"]["state"] for still in record["stills"]} == {"LIVE"}
    assert record["notice"] == NOTICE


def test_nothing_is_overwritten(exported: Path, folder: Path) -> None:
    with pytest.raises(BadInput, match="exists already"):
        export_exam(folder, exported, *parts_of(folder))


def test_a_pipe_in_the_place_of_a_picture_is_told(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    picture = still_path(copy, 1, parts_of(copy)[2][0].number)
    picture.unlink()
    os.mkfifo(picture)
    (note,) = export_exam(copy, tmp_path / "out", *parts_of(copy))
    assert note.endswith("is missing or damaged")


def test_a_folder_may_have_a_name_that_is_not_utf_8(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / os.fsdecode(b"\xff")
    shutil.copytree(folder, copy)
    assert export_exam(copy, copy / "out", *parts_of(copy)) == []


def test_a_picture_that_is_missing_is_told(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    still_path(copy, 1, parts_of(copy)[2][0].number).unlink()
    (note,) = export_exam(copy, tmp_path / "out", *parts_of(copy))
    assert note.endswith("is missing or damaged")
    assert (tmp_path / "out" / "report.html").exists()


def test_a_result_of_another_version_is_not_drawn_and_its_picture_is_written(
    folder: Path, tmp_path: Path
) -> None:
    exam, nodules, stills, decisions = parts_of(folder)
    line = json.loads(stills[0].result)
    del line["rate"]
    older = replace(stills[0], result=json.dumps(line))
    (note,) = export_exam(folder, tmp_path / "out", exam, nodules, [older, *stills[1:]], decisions)
    number = older.number
    assert note == f"picture {number} has no overlay: another version of sonolite kept the result"
    pictures = tmp_path / "out" / "pictures"
    assert (pictures / f"{number}.png").exists()
    assert not (pictures / f"{number}_overlay.png").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img") == REPORT_PICTURES


def test_without_the_extra_all_but_the_pdf_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devices.capture.registry.find_spec", lambda _: None)
    (note,) = export_exam(folder, tmp_path / "out", *parts_of(folder))
    assert note == "no report.pdf, which needs fpdf2: pip install 'sonolite[exam]'"
    assert not (tmp_path / "out" / "report.pdf").exists()


def test_an_anonymous_export_names_nobody(folder: Path, tmp_path: Path) -> None:
    export_exam(folder, tmp_path / "out", *without_identity(*parts_of(folder)))
    content = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file())
    for word in (EVIL, "Weiß", "cmd.mp4"):
        assert word.encode() not in content
    assert "not named here" in (tmp_path / "out" / "report.html").read_text()


def test_files_without_identity_are_told_apart(folder: Path) -> None:
    exam, nodules, stills, decisions = parts_of(folder)
    nodules[0] = replace(nodules[0], file="other.mp4")
    _, nodules, stills, decisions = without_identity(exam, nodules, stills, decisions)
    assert [nodule.file for nodule in nodules] == ["recording 2"] + 8 * ["recording 1"]
    assert {json.loads(still.result)["file"] for still in stills} == {"recording 1"}
    assert {decision.file for decision in decisions} == {"recording 1"}


def test_one_page_has_room_for_so_much(report: ExamReport) -> None:
    assert (len(report.nodules), len(report.pictures)) == (REPORT_NODULES, REPORT_PICTURES)
    assert report.nodules_note == (
        "Nodules with the positive label go first, then those seen in most frames; "
        "3 more are in nodules.csv."
    )
    assert report.pictures_note is not None


def test_a_nodule_with_the_positive_label_is_on_the_page_however_short_it_was_seen(
    folder: Path,
) -> None:
    exam, nodules, stills, decisions = parts_of(folder)
    silent = [replace(nodule, label=None, reason="not enough") for nodule in nodules]
    silent[-1] = replace(nodules[-1], label="malignant", reason=None, frames=1)
    report = make_report(folder, exam, silent, stills, decisions)
    assert report.nodules[-1][:2] == ("9", "malignant")
    assert [picture.caption for picture in report.pictures if "Nodule 9" in picture.caption]


def test_a_picture_bears_the_numbers_of_the_exam(folder: Path) -> None:
    """The session had counted nodules before the exam began."""
    _, nodules, stills, _ = parts_of(folder)
    later = [replace(nodule, track=nodule.track + 6) for nodule in nodules]
    line = json.loads(stills[0].result)
    for nodule in line["nodules"]:
        nodule["track"] += 6
    drawn = draw_still(folder, 1, replace(stills[0], result=json.dumps(line)), later)
    same = draw_still(folder, 1, stills[0], nodules)
    assert drawn is not None
    assert same is not None
    assert np.array_equal(drawn[0], same[0])


def test_what_was_decided_stands_in_words(report: ExamReport) -> None:
    row = report.nodules[0]
    assert row[0] == "1"
    assert "malignant 0.80" in row
    assert ("too close to the threshold", "9") in report.reasons
    assert "Decided by the model demo, version 4, with sonolite" in report.explanation[0]


def test_the_page_escapes_loads_nothing_and_has_the_notice(report: ExamReport) -> None:
    page = exam_page(report)
    assert EVIL not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert NOTICE in page.lower()
    assert set(re.findall(r'(?:src|href)="([a-z]+):', page)) == {"data"}
    assert page.count("<img") == REPORT_PICTURES


def test_a_browser_shows_every_picture_and_prints_one_page(
    browser: "Browser", exported: Path
) -> None:
    page = browser.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.goto((exported / "report.html").as_uri())
    widths = page.eval_on_selector_all("img", "images => images.map(each => each.naturalWidth)")
    assert widths == [320] * REPORT_PICTURES
    wide = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    printed = page.pdf(prefer_css_page_size=True)
    page.close()
    assert (troubles, wide) == ([], True)
    assert pages(printed) == 1


def test_axe_finds_nothing_serious_in_the_page(browser: "Browser", exported: Path) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    context = browser.new_context(bypass_csp=True)  # axe is a script, and the page allows none
    page = context.new_page()
    page.goto((exported / "report.html").as_uri())
    violations = axe.Axe().run(page).response["violations"]
    context.close()
    assert [each["id"] for each in violations if each["impact"] in {"serious", "critical"}] == []


def test_the_pdf_is_one_page(exported: Path) -> None:
    assert pages((exported / "report.pdf").read_bytes()) == 1


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type\s*/Page\b(?!s)", pdf))


def test_the_pdf_says_what_its_font_lacks(report: ExamReport) -> None:
    plain = replace(report, facts=(("Name", "Weiß^Zoë"),))
    assert foot_lines(report) == [*report.explanation, MISSING_LETTERS]
    assert foot_lines(plain) == [*report.explanation]


def test_an_exam_without_a_nodule_has_a_report(report: ExamReport) -> None:
    empty = replace(
        report,
        nodules=(),
        nodules_note=None,
        pictures=(),
        pictures_note=None,
        reasons=(),
        warnings=("The exam is still running.",),
    )
    assert "No nodule was judged." in exam_page(empty)
    assert "The exam is still running." in exam_page(empty)
    assert pages(exam_pdf(empty)) == 1


def test_a_session_that_keeps_exams_does_not_load_the_writer_of_pdf() -> None:
    code = "import sys, edge_runtime.exams.recorder; print('fpdf' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"False\n"
