"""The daily aggregates of a device or of a folder, as checked types."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from devices import BadInput
from devices.schema_io import read_json
from edge_runtime.bundle.gate import DriftReference
from edge_runtime.release.drift_files import MAX_DAY_FILES, read_days
from edge_runtime.release.layout import Refused
from edge_runtime.results.aggregates import Counts, DailyAggregates
from edge_runtime.results.stability import Shift, compare_blocks

MAX_DRIFT_ANSWER = 32 << 20
"""Letters of an answer; more are refused before they are parsed."""
Line = Annotated[str, Meta(max_length=200)]


@dataclass(frozen=True, slots=True)
class _Answer:
    days: Annotated[tuple[dict[str, Any], ...], Meta(max_length=10 * MAX_DAY_FILES)]
    damaged: Annotated[tuple[Line, ...], Meta(max_length=10 * MAX_DAY_FILES)]
    first: Line | None
    last: Line | None
    bundle: Line | None = None
    reference: DriftReference | None = None


@dataclass(frozen=True)
class DriftDays:
    """The days of a time, oldest first."""

    days: tuple[DailyAggregates, ...]
    damaged: tuple[str, ...]
    """The files that cannot be read."""
    first: str | None
    """The first and the last day that there is, at any time."""
    last: str | None
    bundle: str | None
    """The bundle that runs now; None for a folder that is on no device."""
    reference: DriftReference | None
    """That of the bundle."""


AskDays = Callable[[str, str], DriftDays]
"""Gives the days from one to another, as `YYYY-MM-DD`."""


def parse_days(text: str, where: str) -> DriftDays:
    """The days of an answer. A day that is not as it should be counts as damaged.

    Raises BadInput for an answer that makes no sense, or is too large.
    """
    if len(text) > MAX_DRIFT_ANSWER:
        raise BadInput(f"{where}: answers more than {MAX_DRIFT_ANSWER:,} letters")
    answer = read_json(text, _Answer, where, whole=False)
    days, damaged = [], [*answer.damaged]
    for record in answer.days:
        try:
            days.append(read_json(json.dumps(record), DailyAggregates, where))
        except BadInput:
            damaged.append(f"a file of the day {str(record.get('day', '?'))[:10]}")
    days.sort(key=lambda day: day.day)
    return DriftDays(
        tuple(days),
        tuple(damaged),
        answer.first,
        answer.last,
        answer.bundle,
        answer.reference,
    )


def folder_days(folder: Path) -> AskDays:
    """The days of a folder that a sink `drift:FOLDER` filled. Raises BadInput without the folder"""
    if not folder.is_dir():
        raise BadInput(f"{folder}: there is no such folder")

    def ask(since: str, until: str) -> DriftDays:
        try:
            return parse_days(json.dumps(read_days(folder, since, until)), str(folder))
        except (Refused, OSError) as error:
            raise BadInput(f"{folder}: {error}") from error

    return ask


class Period(NamedTuple):
    """A time of whole days of UTC, as `YYYY-MM-DD`."""

    since: str
    until: str

    def __str__(self) -> str:
        return f"{self.since} to {self.until}"


@dataclass(frozen=True)
class DriftComparison:
    """How the answers of a time differ from a reference."""

    bundle: str
    reference: str
    """The reference in words."""
    now: str
    shifts: list[Shift]
    blocks: tuple[Sequence[Counts], Sequence[Counts]]
    """The counts of the reference and of the time."""
    notes: tuple[str, ...]


NO_REFERENCE_LINE = (
    "the bundle has no reference; convert it again with `sonolite convert` of this version, or "
    "compare with an earlier time: --reference FROM..TO"
)
OTHER_CASES = (
    "the reference are images of the gate; a clinic with other shares of the labels, and frames in "
    "the place of chosen images, differ from them with the best scanner, too"
)


def compare_days(
    ask: AskDays,
    period: Period,
    earlier: Period | None = None,
    given: tuple[str, DriftReference | None] | None = None,
) -> DriftComparison:
    """Compares a time with the reference of the bundle, or with an `earlier` time.

    `given` is the id of another bundle whose reference counts. The days are those of the bundle
    that runs now. Raises BadInput where there are none, or where there is no reference.
    """
    now = ask(*period)
    bundle = _bundle_of(now)
    after = _blocks(now, bundle, period)
    damaged = dict.fromkeys(now.damaged)
    notes = []
    if earlier is not None:
        if earlier.until >= period.since and period.until >= earlier.since:
            raise BadInput(f"--reference: {earlier} and {period} have days in common")
        then = ask(*earlier)
        damaged |= dict.fromkeys(then.damaged)
        words, before = f"{earlier} of this device", _blocks(then, bundle, earlier)
    else:
        name, reference = given or (bundle, now.reference)
        if reference is None:
            raise BadInput(NO_REFERENCE_LINE)
        before = [*reference.blocks]
        words = (
            f"the bundle {name}: {reference.images} images of its {reference.split} split in "
            f"{reference.groups} groups, by {reference.variant}"
        )
        notes.append(OTHER_CASES)
    notes += [f"damaged, and not counted: {name}" for name in damaged]
    shifts = compare_blocks(before, after)
    return DriftComparison(bundle, words, str(period), shifts, (before, after), tuple(notes))


def _bundle_of(now: DriftDays) -> str:
    """The bundle of the days to compare: the one that runs, else that of the newest day."""
    names = [day.bundle for day in now.days]
    running = [name for name in names if f"{now.bundle} ".startswith(f"{name} ")]
    if now.bundle is not None:  # the record of a release adds the variant
        return running[-1] if running else now.bundle
    return names[-1] if names else "any bundle"


def _blocks(days: DriftDays, bundle: str, period: Period) -> list[Counts]:
    """The hours of a bundle. Raises BadInput where there are none."""
    blocks = [block for day in days.days if day.bundle == bundle for block in day.hours.values()]
    if not blocks:
        kept = f"; there are days from {days.first} to {days.last}" if days.first else ""
        raise BadInput(f"no aggregates of {bundle} from {period}{kept}")
    return blocks
