"""`sonolite worklist`: list the examinations that the department has scheduled."""

import json
import re
from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated

import typer

from devices import BadInput
from edge_runtime.commands.options import JsonOption
from edge_runtime.commands.outcomes import show_outcomes
from edge_runtime.exams.worklist import MAX_STEPS, ask_worklist, parse_worklist
from edge_runtime.text import say


def worklist(
    address: Annotated[
        str, typer.Argument(metavar="HOST:PORT", help="The worklist, such as 192.168.1.5:104.")
    ],
    called: Annotated[
        str | None, typer.Option(help="The application entity title of the worklist, such as MWL.")
    ] = None,
    calling: Annotated[
        str | None,
        typer.Option(help="The application entity title of this device; without it SONOLITE."),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help='The modality, such as US; "" for all. Without it US.')
    ] = None,
    day: Annotated[
        str, typer.Option(help="The day, such as 2026-05-01, `today` or `all`.")
    ] = "today",
    as_json: JsonOption = False,
) -> None:
    """List the examinations that the department has scheduled, by DICOM (C-FIND).

    Example: sonolite worklist 192.168.1.5:104 --called MWL
    """
    asked = parse_worklist(address)
    asked = replace(
        asked,
        called=asked.called if called is None else called,
        calling=asked.calling if calling is None else calling,
        modality=asked.modality if modality is None else modality,
    )
    answer = ask_worklist(asked, _day(day))
    if as_json:
        print(json.dumps([asdict(step) for step in answer.steps], indent=2, ensure_ascii=False))
    elif answer.steps:
        show_outcomes(
            [
                {
                    "at": step.at,
                    "patient": step.identity.patient_id,
                    "name": step.identity.shown_name,
                    "born": step.identity.birth_date,
                    "accession": step.identity.accession,
                    "examination": step.description,
                }
                for step in answer.steps
            ],
            as_json=False,
        )
    else:
        say("no examination is scheduled")
    if answer.more:
        say(f"note: there are more; the first {MAX_STEPS} answers were read")
    if answer.unread:
        say(f"note: {answer.unread} answers could not be read")


def _day(text: str) -> str:
    """The day as `YYYY-MM-DD`; empty for all. Raises BadInput for other text."""
    if text == "all":
        return ""
    if text == "today":
        return datetime.now().astimezone().date().isoformat()
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
        raise BadInput(f"--day {text}: write it like 2026-05-01, `today` or `all`")
    return text
