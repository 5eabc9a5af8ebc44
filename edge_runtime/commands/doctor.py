"""`sonolite doctor`: the sources and backends of this machine, and why others do not work."""

import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from devices import HardwareMissing
from devices.boards import detect_board, read_board
from edge_runtime.bundle.archive import open_trusted
from edge_runtime.bundle.shipped import open_shipped
from edge_runtime.bundle.trust import admitted_versions
from edge_runtime.commands.options import trusted_keys
from edge_runtime.doctor import examine_machine
from edge_runtime.text import table_cell


def doctor(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            help="The bundle to try, NAME.sonolite; without it the bundle in the package."
        ),
    ] = None,
    board: Annotated[
        str | None,
        typer.Option(help="The board of this machine, such as raspberry-pi-5, or a board file."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the findings to stdout as JSON.")
    ] = False,
) -> None:
    """Show the state of this machine, its sources and backends, and why others do not work.

    Example: sonolite doctor nodule.sonolite
    """
    known = detect_board() if board is None else read_board(board)
    with ExitStack() as stack:
        if bundle is None:
            opened = stack.enter_context(open_shipped())
        else:
            opened = open_trusted(bundle, trusted_keys(), admitted_versions())
        findings = list(examine_machine(opened, known))
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table("", "", "", "", box=SIMPLE_HEAD, show_header=False)
        for finding in findings:
            table.add_row(
                finding.part,
                finding.name,
                "yes" if finding.there else "no",
                table_cell(finding.says),
            )
        Console().print(table)
    runs = {finding.part for finding in findings if finding.there}
    if "compute" not in runs:
        raise HardwareMissing("no classifier of the bundle runs on this machine")
    if opened.manifest.locator is not None and "locator" not in runs:
        raise HardwareMissing("no locator of the bundle runs on this machine")
