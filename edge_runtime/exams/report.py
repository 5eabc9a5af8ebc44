"""The report of an exam on one page: the words and pictures, before HTML or PDF is made of them."""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np

from devices import BadInput, Pixels
from devices.capture.image import MAX_IMAGE_BYTES
from devices.regular_file import read_regular
from edge_runtime.exams.store import Exam, ExamDecision, ExamNodule, KeptStill, still_path
from edge_runtime.results.result import NOTICE, Result, from_json
from edge_runtime.sinks.overlay import draw_result

REPORT_NODULES, REPORT_PICTURES, REPORT_REASONS = 6, 6, 5
"""What one page has room for; the files of the export hold the rest."""
PICTURE_WIDTH = 900
"""Pixels: a picture of the report is reduced to it."""
REPORT_NOTICE = NOTICE[0].upper() + NOTICE[1:]
NODULE_HEAD = ("Nodule", "Decision", "Probability", "Range", "Threshold", "Frames", "First seen")
REASON_HEAD = ("No label, because", "Times")


@dataclass(frozen=True)
class ReportPicture:
    """A picture with the box drawn in."""

    jpeg: bytes
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class ExamReport:
    """All that the page says; the lines are plain text."""

    title: str
    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    nodules: tuple[tuple[str, ...], ...]
    """Rows below NODULE_HEAD."""
    nodules_note: str | None
    pictures: tuple[ReportPicture, ...]
    pictures_note: str | None
    reasons: tuple[tuple[str, ...], ...]
    """Rows below REASON_HEAD."""
    explanation: tuple[str, ...]


def make_report(
    folder: Path,
    exam: Exam,
    nodules: list[ExamNodule],
    stills: list[KeptStill],
    decisions: list[ExamDecision],
) -> ExamReport:
    """The report of an exam whose pictures lie in `folder`."""
    thresholds = exam.provenance.thresholds
    ranked = sorted(nodules, key=lambda nodule: (nodule.label not in thresholds, -nodule.frames))
    chosen = ranked[:REPORT_NODULES]
    listed = sorted(chosen, key=lambda nodule: nodule.number)
    pictures, rest = _pictures(folder, exam.id, chosen, stills, nodules)
    reasons = Counter(each.reason for each in decisions if each.label is None and each.reason)
    return ExamReport(
        title=f"Exam {exam.id}",
        facts=tuple(_facts(exam, len(nodules), len(decisions))),
        warnings=tuple(exam_warnings(exam)),
        nodules=tuple(nodule_row(exam, nodule) for nodule in listed),
        nodules_note=_nodules_note(len(nodules) - len(listed)),
        pictures=tuple(pictures),
        pictures_note=f"{rest} more pictures are among the files of the exam." if rest else None,
        reasons=tuple((reason, str(n)) for reason, n in reasons.most_common(REPORT_REASONS)),
        explanation=tuple(exam_explanation(exam)),
    )


def exam_warnings(exam: Exam) -> list[str]:
    """What a reader has to know before anything else."""
    lines = []
    if exam.running:
        lines.append("The exam is still running.")
    if exam.interrupted:
        lines.append(
            f"The exam was interrupted, as by a power cut; the last moment is {moment(exam.last)}."
        )
    if exam.lost:
        lines.append(f"{exam.lost} steps of the exam could not be written.")
    return lines


def nodule_sentence(exam: Exam, nodule: ExamNodule) -> str:
    """What was decided about a nodule, in plain words."""
    if nodule.label is None:
        decision = f"not assessable: {nodule.reason}"
    else:
        decision = f"the pictures resemble those that are labelled {nodule.label}"
    thresholds = exam.provenance.thresholds
    label = max(thresholds, key=nodule.probability.__getitem__)
    chance = f"Probability of {label} {nodule.probability[label]:.2f}"
    if nodule.interval is not None:
        low, high = nodule.interval[label]
        chance += f", between {low:.2f} and {high:.2f} with more views"
    return (
        f"Nodule {nodule.number}: {decision}. {chance}; the threshold is {thresholds[label]:.2f}. "
        f"Decided from {nodule.frames} frames, {moment(nodule.first_seen)} to "
        f"{moment(nodule.last_seen)[11:]}."
    )


def common_reason(decisions: list[ExamDecision]) -> str | None:
    """The reason that stands most often in an exam; None where none stands there."""
    reasons = Counter(each.reason for each in decisions if each.reason)
    return reasons.most_common(1)[0][0] if reasons else None


def no_nodule_sentence(reason: str | None) -> str:
    """What is said of an exam without a nodule, in plain words."""
    because = "" if reason is None else f" Most often the reason was: {reason}."
    return f"No nodule was judged.{because}"


def moment(utc: str) -> str:
    """A moment for people, to the second."""
    return f"{datetime.fromisoformat(utc):%Y-%m-%d %H:%M:%S} UTC"


def draw_still(
    folder: Path, exam: int, still: KeptStill, nodules: list[ExamNodule]
) -> tuple[Pixels, Result | None] | None:
    """A kept picture with the result drawn in, BGR, and the result.

    The drawn boxes bear the numbers of `nodules`, as all of the exam does.

    None where the file is missing or damaged. The result is None, and nothing is drawn, where
    another version kept it and this one cannot read it.
    """
    pixels = read_still(still_path(folder, exam, still.number))
    if pixels is None:
        return None
    result = result_of(still)
    if result is None:
        return pixels, None
    return draw_result(pixels, _numbered(result, nodules)), result


def _numbered(result: Result, nodules: list[ExamNodule]) -> Result:
    """The result with the numbers of the exam in place of those of the session."""
    numbers = {(nodule.file, nodule.track): nodule.number for nodule in nodules}
    listed = [nodule for nodule in result.nodules if (result.file, nodule.track) in numbers]
    renumbered = (replace(nodule, track=numbers[result.file, nodule.track]) for nodule in listed)
    return replace(result, nodules=tuple(renumbered))


def read_still(path: Path) -> Pixels | None:
    """The pixels of a kept picture, grey or BGR; None where the file is missing or damaged.

    OpenCV is given the content: a name that is not UTF-8 crashes it.
    """
    try:
        content = np.frombuffer(read_regular(path, MAX_IMAGE_BYTES), np.uint8)
        pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    except (FileNotFoundError, BadInput, cv2.error):
        return None
    return None if pixels is None or pixels.dtype != np.uint8 else np.asarray(pixels, np.uint8)


def result_of(still: KeptStill) -> Result | None:
    """The result of a kept picture; None where only another version can read it."""
    try:
        return from_json(still.result)
    except ValueError:
        return None


def _facts(exam: Exam, nodules: int, decisions: int) -> list[tuple[str, str]]:
    identity = exam.identity
    typed = [
        ("Patient", identity.patient_id),
        ("Name", identity.shown_name),
        ("Born", identity.birth_date),
        ("Accession number", identity.accession),
    ]
    given = [(name, value) for name, value in typed if value]
    over = datetime.fromisoformat(exam.last) - datetime.fromisoformat(exam.begun)
    minutes, seconds = divmod(round(over.total_seconds()), 60)
    return [
        *(given or [("Patient", "not named here")]),
        ("Begun", moment(exam.begun)),
        ("Duration", f"{minutes} min {seconds} s"),
        ("Source", exam.provenance.source),
        ("Nodules", str(nodules)),
        ("Decisions kept", str(decisions)),
    ]


def nodule_row(exam: Exam, nodule: ExamNodule) -> tuple[str, ...]:
    """What was decided about a nodule, below NODULE_HEAD."""
    thresholds = exam.provenance.thresholds
    label = max(thresholds, key=nodule.probability.__getitem__)
    bounds = ""
    if nodule.interval is not None:
        low, high = nodule.interval[label]
        bounds = f"{low:.2f} to {high:.2f}"
    return (
        str(nodule.number),
        nodule.label or f"no label: {nodule.reason}",
        f"{label} {nodule.probability[label]:.2f}",
        bounds,
        f"{thresholds[label]:.2f}",
        str(nodule.frames),
        moment(nodule.first_seen)[11:19],
    )


def _nodules_note(rest: int) -> str | None:
    if not rest:
        return None
    return (
        "Nodules with the positive label go first, then those seen in most frames; "
        f"{rest} more are in nodules.csv."
    )


def _pictures(
    folder: Path,
    exam: int,
    listed: list[ExamNodule],
    stills: list[KeptStill],
    nodules: list[ExamNodule],
) -> tuple[list[ReportPicture], int]:
    """What somebody kept first, and the best picture of each listed nodule; how many are left."""
    kept = [still for still in stills if still.kept == "person"]
    best_of = {still.nodule: still for still in stills if still.kept == "best"}
    best = [best_of[nodule.number] for nodule in listed if nodule.number in best_of]
    kept = kept[: REPORT_PICTURES - min(len(best), REPORT_PICTURES // 2)]
    best = best[: REPORT_PICTURES - len(kept)]
    chosen = kept + sorted(best, key=lambda still: still.nodule or 0)
    pictures = [_picture(folder, exam, still, nodules) for still in chosen]
    present = [picture for picture in pictures if picture is not None]
    return present, len(stills) - len(chosen)


def _picture(
    folder: Path, exam: int, still: KeptStill, nodules: list[ExamNodule]
) -> ReportPicture | None:
    drawn = draw_still(folder, exam, still, nodules)
    if drawn is None:
        return None
    overlay, result = drawn
    height, width = overlay.shape[:2]
    if width > PICTURE_WIDTH:
        height, width = round(height * PICTURE_WIDTH / width), PICTURE_WIDTH
        overlay = cv2.resize(overlay, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    coded = cv2.imencode(".jpg", overlay, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    why = "Kept by the user" if still.kept == "person" else f"Nodule {still.nodule}"
    if result is None:
        place = "without the result, which another version of sonolite kept"
    elif result.file is not None:
        place = f"{result.file}, frame {result.frame}"
    else:
        place = f"frame {result.frame}, {moment(result.captured_utc)[11:19]}"
    return ReportPicture(coded.tobytes(), width, height, f"{why}, {place}")


def exam_explanation(exam: Exam) -> list[str]:
    """Which model decided, and what a decision means."""
    made = exam.provenance
    shares = ", ".join(f"{label} {share:.2f}" for label, share in made.prevalence.items())
    return [
        f"Decided by the model {made.bundle}, version {made.version}, with {made.software}, on "
        f"{made.device}. sha256 of the manifest: {made.digest}.",
        "The decision about a nodule follows from all frames that showed it. A label is given "
        "where the probability is far enough from the threshold. The range tells where the "
        "probability would lie with more views of the nodule, in 95 of 100 cases; it does not tell "
        f"the error of the model itself. The probabilities hold at this prevalence: {shares}.",
    ]
