"""The answers of devices, as a table for a person or as JSON for a program."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from devices import CheckFailed
from edge_runtime.text import printable, say, table_cell

AnswersJsonOption = Annotated[
    bool, typer.Option("--json", help="Print the answers to stdout as JSON.")
]
DEVICE_FAILED = "a device failed; see above"
LONG = ("error", "why", "configuration", "view", "sinks", "damaged")
"""Texts that no column has room for. Each is a line below the table."""


def show_outcomes(outcomes: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Prints the answers to stdout; the table has one line for each device."""
    if as_json:
        print(json.dumps(list(outcomes), indent=2))
        return
    names = list(dict.fromkeys(key for each in outcomes for key in each if key not in LONG))
    columns = [name for name in names if not any(_deep(outcome.get(name)) for outcome in outcomes)]
    table = Table(box=SIMPLE_HEAD)
    for name in columns:
        table.add_column(name, overflow="fold", min_width=max(map(len, name.split())))
    for outcome in outcomes:
        table.add_row(*(table_cell(_text(outcome.get(name))) for name in columns))
    Console().print(table)
    for outcome in outcomes:
        for name in LONG:
            if text := _text(outcome.get(name)):
                print(printable(f"{outcome['device']}: {name}: {text}"))


def say_errors(answers: Sequence[dict[str, Any]]) -> None:
    """Tells which devices failed, and why. Raises CheckFailed where one did."""
    failed = [answer for answer in answers if "error" in answer]
    for answer in failed:
        say(printable(f"{answer['device']}: {answer['error']}"))
    if failed:
        raise CheckFailed(DEVICE_FAILED)


def _deep(value: object) -> bool:
    return isinstance(value, dict | list)


def _text(value: object) -> str:
    words = {None: "", True: "yes", False: "no"}
    return words[value] if isinstance(value, bool | None) else str(value)
