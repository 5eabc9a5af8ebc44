"""`sonolite device drift`: whether the answers of a device have changed."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from devices import BadInput, CheckFailed
from edge_runtime.bundle.archive import open_trusted
from edge_runtime.bundle.gate import read_gate
from edge_runtime.commands.deploy import RootOption, SshOption
from edge_runtime.commands.options import trusted_keys
from edge_runtime.commands.outcomes import DEVICE_FAILED, AnswersJsonOption
from edge_runtime.deploy.drift import AskDays, DriftComparison, Period, compare_days, folder_days
from edge_runtime.deploy.fleet import FleetDevice, named_devices, on_every_device
from edge_runtime.deploy.installed import connect
from edge_runtime.release.layout import DEFAULT_ROOT
from edge_runtime.results.aggregates import (
    LABELS,
    LATENCY,
    STATES,
    bins_of,
    quantile,
    total_counts,
)
from edge_runtime.results.stability import Shift, Stability
from edge_runtime.text import printable, say, table_cell

DRIFT_DAYS = 7
"""Days that are compared unless the user names others."""


def device_drift(
    target: Annotated[
        str,
        typer.Argument(
            help="The device, as for `device status`; or a folder with a slash, such as ./drift."
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option(help="The first day of UTC, such as 2026-11-23; without it a week ago."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="The last day of UTC; without it today.")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Compare with an earlier time, such as 2026-11-01..2026-11-14."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Compare with the reference of this bundle.")
    ] = None,
    root: RootOption = DEFAULT_ROOT,
    ssh: SshOption = "",
    as_json: AnswersJsonOption = False,
) -> None:
    """Compare the answers of a device with those that its bundle promises; exit 1 after a change.

    Example: sonolite device drift pi@bed-1

    Example: sonolite device drift pi@bed-1 --reference 2026-11-01..2026-11-14
    """
    if reference is not None and bundle is not None:
        raise BadInput("--reference and --bundle: give one of them")
    period = _period(since, until)
    earlier = None if reference is None else _earlier(reference)
    given = None
    if bundle is not None:
        opened = open_trusted(bundle, trusted_keys())
        given = opened.id, read_gate(opened).reference
    answers = _compared(target, root, ssh, lambda ask: compare_days(ask, period, earlier, given))
    if as_json:
        print(json.dumps([_plain(*answer) for answer in answers]))
    else:
        for name, answer in answers:
            if isinstance(answer, DriftComparison):
                _show(name, answer)
            else:
                say(printable(f"{name}: {answer}"))
    changes = {
        name: _changed(answer) for name, answer in answers if isinstance(answer, DriftComparison)
    }
    if names := [name for name, measures in changes.items() if measures]:
        measures = ", ".join(dict.fromkeys(each for name in names for each in changes[name]))
        raise CheckFailed(f"{', '.join(names)}: a change of {printable(measures)}")
    if len(changes) < len(answers):
        raise CheckFailed(DEVICE_FAILED)


DeviceAnswer = tuple[str, DriftComparison | str]
"""A device with the comparison, or with the error."""


def _compared(
    target: str, root: str, ssh: str, compare: Callable[[AskDays], DriftComparison]
) -> list[DeviceAnswer]:
    """The comparison of a folder, or of each device. Raises the error of an only device."""
    if "/" in target and not target.endswith(".toml"):
        return [(target, compare(folder_days(Path(target))))]

    def ask(member: FleetDevice) -> dict[str, Any]:
        with connect(member) as device:
            return {"comparison": compare(device.drift)}

    outcomes = list(on_every_device(named_devices(target, root, ssh), ask))
    return [(each["device"], each.get("comparison") or each["error"]) for each in outcomes]


def _changed(comparison: DriftComparison) -> list[str]:
    return [shift.measure for shift in comparison.shifts if shift.verdict is Stability.CHANGE]


def _day(word: str, option: str) -> date:
    try:
        return date.fromisoformat(word)
    except ValueError:
        raise BadInput(f"{option}: a day is written like 2026-11-29") from None


def _period(since: str | None, until: str | None) -> Period:
    """The days to compare."""
    last = datetime.now(UTC).date() if until is None else _day(until, "--until")
    first = last - timedelta(days=DRIFT_DAYS - 1) if since is None else _day(since, "--since")
    if first > last:
        raise BadInput(f"--since {first} is after --until {last}")
    return Period(first.isoformat(), last.isoformat())


def _earlier(text: str) -> Period:
    """The time of `--reference`: two days with two dots between them, or one."""
    first, _, last = text.partition("..")
    begin = _day(first, "--reference")
    end = _day(last, "--reference") if last else begin
    if begin > end:
        raise BadInput(f"--reference {text}: ends before it begins")
    return Period(begin.isoformat(), end.isoformat())


def _show(name: str, comparison: DriftComparison) -> None:
    """Prints the table of one device."""
    before, after = comparison.blocks
    frames, nodules = (sum(total_counts(after, kind).values()) for kind in (STATES, LABELS))
    out = Console()
    for line in (
        f"{name}: {comparison.bundle}",
        f"now: {comparison.now}, {frames:,} frames with {nodules:,} nodules in {len(after)} hours",
        f"reference: {comparison.reference}",
    ):
        out.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    table = Table("measure", "reference", "now", box=SIMPLE_HEAD)
    table.add_column("PSI", no_wrap=True)
    table.add_column("")
    for shift in comparison.shifts:
        sides = (total_counts(blocks, shift.measure) for blocks in (before, after))
        summaries = (table_cell(_summary(shift, counts)) for counts in sides)
        table.add_row(table_cell(shift.measure), *summaries, _index(shift), str(shift.verdict))
    out.print(table)
    for note in comparison.notes:
        say(printable(f"note: {note}"))


def _index(shift: Shift) -> str:
    if shift.index is None:
        return ""
    if shift.interval is None:
        return f"{shift.index:.2f}"
    return "{:.2f} ({:.2f} to {:.2f})".format(shift.index, *shift.interval)


def _summary(shift: Shift, counts: dict[str, int]) -> str:
    """The counts of a measure in a few words."""
    total = sum(counts.values())
    if not total:
        return ""
    if shift.measure == LATENCY:
        return ", ".join(
            f"p{percent} {1000 * quantile(counts, LATENCY, percent / 100):.0f} ms"
            for percent in (50, 95, 99)
        )
    if bins_of(shift.measure) is not None:
        low, middle, high = (quantile(counts, shift.measure, share) for share in (0.1, 0.5, 0.9))
        return f"{middle:.2f} (80 %: {low:.2f} to {high:.2f})"
    largest = sorted(counts.items(), key=lambda pair: -pair[1])[:4]
    return ", ".join(f"{category} {count / total:.0%}" for category, count in largest)


def _plain(name: str, answer: DriftComparison | str) -> dict[str, Any]:
    """The answer of a device for a program, with the counts of each side."""
    if isinstance(answer, str):
        return {"device": name, "error": answer}
    before, after = answer.blocks
    return {
        "device": name,
        "bundle": answer.bundle,
        "reference": answer.reference,
        "now": answer.now,
        "notes": answer.notes,
        "measures": [
            asdict(shift)
            | {
                "reference_counts": total_counts(before, shift.measure),
                "counts": total_counts(after, shift.measure),
            }
            for shift in answer.shifts
        ],
    }
