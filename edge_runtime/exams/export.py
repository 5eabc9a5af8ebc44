"""An exam as a folder: tables, lossless pictures, and the report."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import msgspec

from edge_runtime.exams.fhir import exam_as_fhir
from edge_runtime.exams.page import exam_page
from edge_runtime.exams.pdf import PDF_WRITER, exam_pdf
from edge_runtime.exams.report import draw_still, make_report
from edge_runtime.exams.store import (
    Exam,
    ExamDecision,
    ExamNodule,
    Identity,
    KeptStill,
    still_path,
)
from edge_runtime.files import whole_folder
from edge_runtime.results.result import NOTICE
from edge_runtime.sinks.csv_rows import FORMULA
from edge_runtime.sinks.open import DICOM_OBJECTS


def export_exam(
    folder: Path,
    out: Path,
    exam: Exam,
    nodules: list[ExamNodule],
    stills: list[KeptStill],
    decisions: list[ExamDecision],
    *,
    dicom: bool = False,
    clip: str | None = None,
    fhir: bool = False,
) -> list[str]:
    """Writes an exam of `folder` into the new folder `out`, whole or not at all.

    With `dicom` the DICOM objects come along, with the recording `clip` among them, and with `fhir`
    the same as FHIR. There is no report.pdf without the extra `exam`. Returns what could not be
    written, in words. Raises BadInput where `out` exists, or cannot be written, with either for an
    exam that runs, and with `dicom` without the extra `dicom`.
    """
    if dicom:
        DICOM_OBJECTS.require()
    notes = []
    with whole_folder(out) as part:
        report = make_report(folder, exam, nodules, stills, decisions)
        (part / "report.html").write_text(exam_page(report), encoding="utf-8")
        if PDF_WRITER.missing() is None:
            (part / "report.pdf").write_bytes(exam_pdf(report))
        else:
            notes.append(f"no report.pdf, which needs {PDF_WRITER.distribution}: {PDF_WRITER.cure}")
        record = exam_record(exam, nodules, stills)
        if fhir:
            (part / "fhir.json").write_bytes(exam_as_fhir(exam, nodules, decisions, report))
        (part / "exam.json").write_bytes(msgspec.json.format(msgspec.json.encode(record)) + b"\n")
        labels = list(exam.provenance.prevalence)
        _table(part / "decisions.csv", _decision_rows(decisions, labels))
        _table(part / "nodules.csv", _nodule_rows(nodules, labels))
        (part / "pictures").mkdir()
        for still in stills:
            drawn = draw_still(folder, exam.id, still)
            if drawn is None:
                notes.append(f"picture {still.number} is missing or damaged")
                continue
            content = still_path(folder, exam.id, still.number).read_bytes()
            (part / "pictures" / f"{still.number}.png").write_bytes(content)
            overlay, result = drawn
            if result is None:
                why = "another version of sonolite kept the result"
                notes.append(f"picture {still.number} has no overlay: {why}")
                continue
            coded = cv2.imencode(".png", overlay)[1].tobytes()
            (part / "pictures" / f"{still.number}_overlay.png").write_bytes(coded)
        if dicom:
            from edge_runtime.exams.dicom.objects import exam_objects, write_objects

            write_objects(
                part / "dicom", exam_objects(folder, exam, nodules, stills, decisions, clip)
            )
    return notes


def without_identity(
    exam: Exam, nodules: list[ExamNodule], stills: list[KeptStill], decisions: list[ExamDecision]
) -> tuple[Exam, list[ExamNodule], list[KeptStill], list[ExamDecision]]:
    """The same without the identity, and without names of files, which may hold one."""
    hidden = [replace(still, result=_without_file(still.result)) for still in stills]
    source = exam.provenance.source if exam.provenance.live else "a recording"
    return (
        replace(exam, identity=Identity(), provenance=replace(exam.provenance, source=source)),
        [replace(nodule, file=None) for nodule in nodules],
        hidden,
        [replace(decision, file=None) for decision in decisions],
    )


def exam_record(
    exam: Exam, nodules: Sequence[ExamNodule], stills: Sequence[KeptStill]
) -> dict[str, Any]:
    """An exam with all but its decisions, for JSON."""
    return exam_summary(exam) | {
        "nodules": [asdict(nodule) for nodule in nodules],
        "stills": [
            {"picture": still.number, "kept": still.kept, "nodule": still.nodule}
            | {"result": msgspec.Raw(still.result.encode())}
            for still in stills
        ],
        "notice": NOTICE,
    }


def exam_summary(exam: Exam) -> dict[str, Any]:
    """The facts of an exam, for JSON."""
    record = asdict(exam) | {"interrupted": exam.interrupted}
    record["nodule_count"], record["kept_by_person"] = record.pop("nodules"), record.pop("stills")
    return record


def _without_file(line: str) -> str:
    return msgspec.json.encode(msgspec.json.decode(line) | {"file": None}).decode()


def _decision_rows(
    decisions: Sequence[ExamDecision], labels: Sequence[str]
) -> Iterable[dict[str, object]]:
    for each in decisions:
        x, y, w, h = each.box or (None,) * 4
        yield {
            "at": each.at,
            "seconds": each.seconds,
            "frame": each.frame,
            "file": each.file,
            "state": each.state,
            "nodule": each.nodule,
            "track": each.track,
            "label": each.label,
            "reason": each.reason,
            **_shares("probability", labels, each.probability, each.interval),
            **_shares("frame_probability", labels, each.frame_probability),
            "x": x,
            "y": y,
            "width": w,
            "height": h,
            "backend": each.backend,
            "fallback": each.fallback,
        }


def _nodule_rows(
    nodules: Sequence[ExamNodule], labels: Sequence[str]
) -> Iterable[dict[str, object]]:
    for each in nodules:
        yield {
            "nodule": each.number,
            "track": each.track,
            "file": each.file,
            "first_seen": each.first_seen,
            "last_seen": each.last_seen,
            "frames": each.frames,
            "label": each.label,
            "reason": each.reason,
            **_shares("probability", labels, each.probability, each.interval),
            "best_frames": " ".join(map(str, each.best)),
        }


def _shares(
    name: str,
    labels: Sequence[str],
    shares: dict[str, float] | None,
    bounds: dict[str, tuple[float, float]] | None = None,
) -> dict[str, object]:
    """A column for each label; of a smoothed probability also the bounds of the interval."""
    columns: dict[str, object] = {}
    for label in labels:
        columns[f"{name}_{label}"] = None if shares is None else round(shares[label], 6)
        if name == "probability":
            low, high = (None, None) if bounds is None else bounds[label]
            columns |= {f"low_{label}": low, f"high_{label}": high}
    return columns


def _table(path: Path, rows: Iterable[dict[str, object]]) -> None:
    """Writes a table as CSV (RFC 4180); an empty one has no line."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer: csv.DictWriter[str] | None = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(file, list(row))
                writer.writeheader()
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
