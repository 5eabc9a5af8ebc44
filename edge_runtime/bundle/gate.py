"""`gate.json` as a device reads it: the figures that the release gate measured of each variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from devices.schema_io import read_json
from edge_runtime.bundle.archive import GATE, Bundle
from edge_runtime.bundle.manifest import LOCATOR_GATE, Variant
from edge_runtime.results.aggregates import Counts, require_bins

MAX_REFERENCE_BLOCKS = 100


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure."""

    value: int | float
    interval: tuple[float, float] | None = None
    """The 95 % interval, where there is one."""

    def __str__(self) -> str:
        """The value, and the interval on a line of its own."""
        if isinstance(self.value, int):
            return f"{self.value:,}"
        between = "" if self.interval is None else "\n{:.3f}\u2026{:.3f}".format(*self.interval)
        return f"{self.value:.4f}{between}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The figures of one variant on one set of pictures, compared with float32 if possible."""

    variant: Variant
    figures: dict[str, Figure]
    """The figures by name; empty for a variant that could not be made or run."""
    failures: tuple[str, ...] | None
    """The limits that the variant fails, in words; empty where it keeps all limits, and None where
    there was no float32 to compare with."""


@dataclass(frozen=True, slots=True)
class DriftReference:
    """How one variant answered the images of the gate, for `sonolite device drift`."""

    variant: Variant
    split: Annotated[str, Meta(max_length=64)]
    images: Annotated[int, Meta(ge=1)]
    groups: Annotated[int, Meta(ge=1)]
    """Groups of the images; images of one group depend on one another."""
    blocks: Annotated[tuple[Counts, ...], Meta(min_length=1, max_length=MAX_REFERENCE_BLOCKS)]
    """The counts of each group; of many groups several together."""

    def __post_init__(self) -> None:
        for block in self.blocks:
            require_bins(block)


@dataclass(frozen=True, slots=True)
class Gate:
    """The part of `gate.json` that is shown on a device."""

    variants: Annotated[tuple[Comparison, ...], Meta(min_length=1)]
    """float32 comes first. A variant that failed is not in the bundle."""
    operators: dict[Variant, dict[str, int]]
    """The operators in the graph of each variant, and the highest version of each."""
    reference: DriftReference | None = None
    """None in a bundle of an earlier version."""


@dataclass(frozen=True, slots=True)
class LocatorGate:
    """The part of `gate_locator.json` that is shown on a device."""

    variants: Annotated[tuple[Comparison, ...], Meta(min_length=1)]
    """float32 comes first."""


def rows(comparisons: Sequence[Comparison]) -> dict[str, list[str]]:
    """A table: a row for each figure, by the name in words, with a cell for each variant."""
    named = {
        " ".join(_WORDS.get(word, word) for word in name.split("_")): [
            str(comparison.figures.get(name, "")) for comparison in comparisons
        ]
        for name in comparisons[0].figures
    }
    return named | {"limits": [_limits(comparison) for comparison in comparisons]}


def _limits(comparison: Comparison) -> str:
    return "not judged" if comparison.failures is None else "; ".join(comparison.failures) or "held"


_WORDS = {"auroc": "AUROC", "ece": "ECE", "mcnemar": "McNemar's p"}


def read_gate(bundle: Bundle) -> Gate:
    """Reads `gate.json` of a bundle. Raises BadInput where it is damaged."""
    return read_json(bundle.read(GATE), Gate, f"{bundle.path}: {GATE}", whole=False)


def read_locator_gate(bundle: Bundle) -> LocatorGate:
    """Reads `gate_locator.json` of a bundle with a locator. Raises BadInput where it is damaged."""
    where = f"{bundle.path}: {LOCATOR_GATE}"
    return read_json(bundle.read(LOCATOR_GATE), LocatorGate, where, whole=False)
