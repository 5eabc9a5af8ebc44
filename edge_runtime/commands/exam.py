"""`sonolite exam`: list, show, export and delete the exams that were kept on this machine."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from devices import BadInput
from edge_runtime.commands.options import DAYS, JsonOption, finite
from edge_runtime.commands.outcomes import show_outcomes
from edge_runtime.exams.export import exam_record, exam_summary, export_exam, without_identity
from edge_runtime.exams.recorder import running_exam
from edge_runtime.exams.report import NODULE_HEAD, exam_warnings, make_report, moment
from edge_runtime.exams.schema import open_exams
from edge_runtime.exams.store import (
    Exam,
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
from edge_runtime.text import printable, say

exam = typer.Typer(help="List, show, export and delete exams.")

FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", help="The folder of the exams; without it your own, as of `run`."),
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
    if report.nodules:
        show_outcomes(
            [dict(zip(NODULE_HEAD, row, strict=True)) for row in report.nodules], as_json=False
        )
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
) -> None:
    """Write an exam into a new folder: a report as HTML and PDF, tables, and lossless pictures.

    Example: sonolite exam export 3 --out exam-3

    Example: sonolite exam export 3 --out exam-3 --anonymous
    """
    with _opened(folder) as (place, connection):
        parts = (
            _chosen(place, connection, number),
            read_nodules(connection, number),
            read_stills(connection, number),
            read_decisions(connection, number),
        )
    if anonymous:
        parts = without_identity(*parts)
        say("note: the pictures may show a name, which stays")
    for line in export_exam(place, out, *parts):
        say(f"note: {line}")
    say(f"saved {out}")


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
        except sqlite3.Error as error:
            raise BadInput(f"{place}: the exams cannot be used now: {error}") from error


def _chosen(place: Path, connection: sqlite3.Connection, number: int) -> Exam:
    """The exam of a number. Raises BadInput where there is none."""
    exams = read_exams(connection, running_exam(place, connection), number)
    if not exams:
        raise BadInput(f"{place}: there is no exam {number}; `sonolite exam list` lists them")
    return exams[0]


def _line(each: Exam) -> dict[str, object]:
    cut_off = f"interrupted {moment(each.last)[11:16]}"
    state = "running" if each.running else cut_off if each.interrupted else "ended"
    return {
        "exam": each.id,
        "begun (UTC)": moment(each.begun)[:16],
        "state": state,
        "patient": each.identity.patient_id or each.identity.shown_name,
        "nodules": each.nodules,
        "stills": each.stills,
        "model": f"{each.provenance.bundle} {each.provenance.version}",
    }


def _print(line: str) -> None:
    print(printable(line))
