"""`sonolite exam`: list, show, export, send and delete the exams that were kept on this machine."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from devices import BadInput, CheckFailed, NotDelivered
from edge_runtime.commands.options import DAYS, JsonOption, finite
from edge_runtime.commands.outcomes import show_outcomes
from edge_runtime.exams.export import exam_record, exam_summary, export_exam, without_identity
from edge_runtime.exams.recorder import running_exam
from edge_runtime.exams.report import (
    NODULE_HEAD,
    exam_warnings,
    make_report,
    moment,
    nodule_row,
)
from edge_runtime.exams.schema import DATABASE, DATABASE_ERRORS, open_exams
from edge_runtime.exams.store import (
    Exam,
    ExamDecision,
    ExamNodule,
    KeptStill,
    Retention,
    apply_retention,
    delete_exam,
    own_exams_folder,
    read_decisions,
    read_exams,
    read_nodules,
    read_stills,
)
from edge_runtime.results.result import NOTICE
from edge_runtime.sinks.open import DICOM_OBJECTS
from edge_runtime.sinks.pacs import PACS_VARIABLE, parse_pacs
from edge_runtime.sinks.sink_uri import SinkUri
from edge_runtime.text import printable, say

exam = typer.Typer(help="List, show, export, send and delete exams.")

ClipOption = Annotated[
    str | None,
    typer.Option(
        metavar="RECORDING",
        help="Add the first frames of a recording of the exam, such as sweep.mp4.",
    ),
]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder", help="The folder of the exams; without it the one that `run --exam` uses."
    ),
]
NumberArgument = Annotated[int, typer.Argument(help="The number of the exam, such as 3.", min=1)]


@exam.command("list")
def list_exams(folder: FolderOption = None, as_json: JsonOption = False) -> None:
    """List the exams, the oldest first.

    Example: sonolite exam list

    Example: sonolite exam list --folder /mnt/exams --json
    """
    with _opened(folder) as (place, connection):
        exams = read_exams(connection, running_exam(place, connection))
    if as_json:
        print(json.dumps([exam_summary(each) for each in exams], indent=2))
        return
    if not exams:
        say("no exams are kept")
        return
    show_outcomes([_line(each) for each in exams], as_json=False)


@exam.command("show")
def show_exam(
    number: NumberArgument, folder: FolderOption = None, as_json: JsonOption = False
) -> None:
    """Show what was decided in an exam, and by which model.

    Example: sonolite exam show 3
    """
    with _opened(folder) as (place, connection):
        chosen = _chosen(place, connection, number)
        nodules, stills = read_nodules(connection, number), read_stills(connection, number)
        decisions = read_decisions(connection, number)
    if as_json:
        print(
            msgspec.json.format(msgspec.json.encode(exam_record(chosen, nodules, stills))).decode()
        )
        return
    report = make_report(place, chosen, nodules, [], decisions)
    for name, value in report.facts:
        _print(f"{name}: {value}")
    for line in exam_warnings(chosen):
        _print(line)
    rows = [nodule_row(chosen, nodule) for nodule in nodules]
    if rows:
        show_outcomes([dict(zip(NODULE_HEAD, row, strict=True)) for row in rows], as_json=False)
    for reason, times in report.reasons:
        _print(f"no label, because: {reason} ({times} times)")
    for line in (f"Pictures: {len(stills)}", *report.explanation, NOTICE):
        _print(line)


@exam.command("export")
def export(
    number: NumberArgument,
    out: Annotated[Path, typer.Option(help="The new folder, such as exam-3.")],
    folder: FolderOption = None,
    anonymous: Annotated[
        bool, typer.Option("--anonymous", help="Leave out the identity and the names of files.")
    ] = False,
    dicom: Annotated[
        bool, typer.Option("--dicom", help="Add DICOM objects: a structured report, the pictures.")
    ] = False,
    clip: ClipOption = None,
    fhir: Annotated[
        bool, typer.Option("--fhir", help="Add fhir.json: the exam as a Bundle of FHIR R4.")
    ] = False,
) -> None:
    """Write an exam into a new folder: a report as HTML and PDF, tables, and lossless pictures.

    Example: sonolite exam export 3 --out exam-3

    Example: sonolite exam export 3 --out exam-3 --anonymous --dicom --fhir
    """
    if clip is not None and not dicom:
        raise BadInput("--clip needs --dicom")
    with _opened(folder) as (place, connection):
        parts = _whole(connection, _chosen(place, connection, number))
    if anonymous:
        parts = without_identity(*parts)
        say("note: the pictures may show a name, which stays")
    for line in export_exam(place, out, *parts, dicom=dicom, clip=clip, fhir=fhir):
        say(f"note: {line}")
    say(printable(f"saved {out}"))


@exam.command("send")
def send(
    number: NumberArgument,
    pacs: Annotated[
        str,
        typer.Argument(
            envvar=PACS_VARIABLE,
            help="The PACS, such as dicom://HOST:PORT or dicomweb:https://HOST.",
        ),
    ],
    folder: FolderOption = None,
    clip: ClipOption = None,
) -> None:
    """Send an exam to a PACS: a structured report and the pictures.

    Exit code 1 says that no other attempt will help, and 3 that a later one may.

    Example: sonolite exam send 3 "dicom://pacs:104?called=ARCHIVE"
    """
    receiver = parse_pacs(SinkUri(pacs))
    DICOM_OBJECTS.require()
    from edge_runtime.exams.dicom.send import send_objects

    place = folder or own_exams_folder()
    if not (place / DATABASE).is_file():
        raise NotDelivered(f"exam {number} is not sent: no exams are kept in {place}")
    with _opened(place) as (_, connection):
        exams = read_exams(connection, running_exam(place, connection), number)
        if not exams:
            raise CheckFailed(f"exam {number} is not sent: there is no such exam")
        parts = _whole(connection, exams[0])
    count = send_objects(receiver, place, *parts, clip)
    say(f"sent {count} objects to {receiver.name}")


@exam.command("delete")
def delete(
    number: Annotated[
        list[int] | None, typer.Argument(help="The numbers of the exams, such as 3 4.", min=1)
    ] = None,
    folder: FolderOption = None,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than",
            min=0,
            max=DAYS,
            callback=finite,
            metavar="DAYS",
            help="Delete all older exams.",
        ),
    ] = None,
) -> None:
    """Delete exams with their pictures, for good. An exam that runs is not deleted.

    Example: sonolite exam delete 3

    Example: sonolite exam delete --older-than 30
    """
    numbers = number or []
    if bool(numbers) == (older_than is not None):
        raise BadInput("name either exams or --older-than")
    with _opened(folder) as (place, connection):
        running = running_exam(place, connection)
        for each in numbers:
            if _chosen(place, connection, each).running:
                raise BadInput(f"exam {each} is running; end it first")
        for each in numbers:
            delete_exam(connection, place, each)
        if older_than is not None:
            retention = Retention(days=older_than)
            numbers = apply_retention(connection, place, retention, datetime.now(UTC), running)
    say(f"deleted: {', '.join(map(str, numbers)) or 'none'}")


@contextmanager
def _opened(folder: Path | None) -> Iterator[tuple[Path, sqlite3.Connection]]:
    """The folder and the database. Raises BadInput where either cannot be used."""
    place = folder or own_exams_folder()
    with closing(open_exams(place)) as connection:
        try:
            yield place, connection
        except DATABASE_ERRORS as error:
            raise BadInput(f"{place}: the exams cannot be used now: {error}") from error


def _chosen(place: Path, connection: sqlite3.Connection, number: int) -> Exam:
    """The exam of a number. Raises BadInput where there is none."""
    exams = read_exams(connection, running_exam(place, connection), number)
    if not exams:
        raise BadInput(f"{place}: there is no exam {number}; `sonolite exam list` lists them")
    return exams[0]


def _whole(
    connection: sqlite3.Connection, chosen: Exam
) -> tuple[Exam, list[ExamNodule], list[KeptStill], list[ExamDecision]]:
    """An exam with all that belongs to it."""
    return (
        chosen,
        read_nodules(connection, chosen.id),
        read_stills(connection, chosen.id),
        read_decisions(connection, chosen.id),
    )


def _line(each: Exam) -> dict[str, object]:
    cut_off = f"interrupted {moment(each.last)[11:16]}"
    state = "running" if each.running else cut_off if each.interrupted else "ended"
    return {
        "exam": each.id,
        "begun (UTC)": moment(each.begun)[:16],
        "state": state,
        "patient": each.identity.patient_id or each.identity.shown_name,
        "nodules": each.nodules,
        "pictures": each.pictures,
        "model": f"{each.provenance.bundle} {each.provenance.version}",
    }


def _print(line: str) -> None:
    print(printable(line))
