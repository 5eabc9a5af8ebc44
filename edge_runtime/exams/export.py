"""An exam as a folder: tables, lossless pictures, and the report."""

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
from edge_runtime.sinks.csv_rows import Cell, CsvEncoder
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
        tables = {
            "decisions.csv": _decision_rows(decisions, labels),
            "nodules.csv": _nodule_rows(nodules, labels),
        }
        for name, rows in tables.items():
            (part / name).write_bytes(CsvEncoder().encode(rows))
        (part / "pictures").mkdir()
        for still in stills:
            drawn = draw_still(folder, exam.id, still, nodules)
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
    """The same without the identity, and without names of files, which may hold one.

    Each file is told from the others as `recording 1`, `recording 2` and so on.
    """
    lines = [msgspec.json.decode(still.result) for still in stills]
    files = [each.file for each in decisions] + [each.file for each in nodules]
    files += [line.get("file") for line in lines]
    distinct = dict.fromkeys(filter(None, files))
    names: dict[str | None, str] = {file: f"recording {n}" for n, file in enumerate(distinct, 1)}
    hidden = [line | {"file": names.get(line.get("file"))} for line in lines]
    source = exam.provenance.source if exam.provenance.live else "a recording"
    return (
        replace(exam, identity=Identity(), provenance=replace(exam.provenance, source=source)),
        [replace(nodule, file=names.get(nodule.file)) for nodule in nodules],
        [
            replace(still, result=msgspec.json.encode(line).decode())
            for still, line in zip(stills, hidden, strict=True)
        ],
        [replace(decision, file=names.get(decision.file)) for decision in decisions],
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
    names = {"nodules": "nodule_count", "pictures": "picture_count", "stills": "kept_by_person"}
    for name, key in names.items():
        record[key] = record.pop(name)
    return record


def _decision_rows(
    decisions: Sequence[ExamDecision], labels: Sequence[str]
) -> Iterable[tuple[Cell, ...]]:
    """The head, and a row for each decision."""
    yield (
        *("at", "seconds", "frame", "file", "state", "nodule", "track", "label", "reason"),
        *_share_head(labels),
        *(f"frame_probability_{label}" for label in labels),
        *("x", "y", "width", "height", "backend", "fallback"),
    )
    for each in decisions:
        frame_shares = each.frame_probability or {}
        yield (
            *(each.at, _rounded(each.seconds), each.frame, each.file, each.state),
            *(each.nodule, each.track, each.label, each.reason),
            *_shares(labels, each.probability, each.interval),
            *(_rounded(frame_shares.get(label)) for label in labels),
            *(each.box or (None,) * 4),
            *(each.backend, each.fallback),
        )


def _nodule_rows(
    nodules: Sequence[ExamNodule], labels: Sequence[str]
) -> Iterable[tuple[Cell, ...]]:
    """The head, and a row for each nodule."""
    yield (
        *("nodule", "track", "file", "first_seen", "last_seen", "frames", "label", "reason"),
        *_share_head(labels),
        "best_frames",
    )
    for each in nodules:
        yield (
            *(each.number, each.track, each.file, each.first_seen, each.last_seen, each.frames),
            *(each.label, each.reason),
            *_shares(labels, each.probability, each.interval),
            " ".join(map(str, each.best)),
        )


def _share_head(labels: Sequence[str]) -> Iterable[str]:
    for label in labels:
        yield from (f"probability_{label}", f"low_{label}", f"high_{label}")


def _shares(
    labels: Sequence[str],
    shares: dict[str, float] | None,
    bounds: dict[str, tuple[float, float]] | None,
) -> Iterable[float | None]:
    """The probability of each label, and the bounds of the interval."""
    for label in labels:
        yield None if shares is None else _rounded(shares[label])
        yield from (None, None) if bounds is None else map(_rounded, bounds[label])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
