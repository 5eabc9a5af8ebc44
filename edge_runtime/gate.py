"""What the release gate measured of a bundle's variants: `gate.json`, as a device reads it."""

from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from devices import BadInput
from edge_runtime.bundle import GATE, Bundle
from edge_runtime.manifest import Variant, explain


@dataclass(frozen=True)
class Measured:
    """Figures on the test split; the file holds more of them."""

    auroc: float
    sensitivity: float
    specificity: float


@dataclass(frozen=True)
class Judged:
    """One variant against float32."""

    variant: Variant
    metrics: Measured
    label_agreement: float
    failures: tuple[str, ...]
    """What lies below its limit; such a variant is not in the bundle."""


@dataclass(frozen=True)
class Lost:
    """A variant that could not be measured, and therefore failed."""

    variant: Variant
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Gate:
    """The part of `gate.json` that is shown on a device."""

    variants: tuple[Judged, ...]
    not_measured: tuple[Lost, ...]
    operators: dict[Variant, dict[str, int]]
    """The operations of each variant's graph, and the highest version of each."""


_GATE = TypeAdapter(Gate)


def read_gate(bundle: Bundle) -> Gate:
    """Reads the gate of a bundle. Raises BadInput where it is not one."""
    try:
        return _GATE.validate_json(bundle.read(GATE))
    except ValidationError as error:
        raise BadInput(f"{bundle.path}: {GATE}: {explain(error)}") from error
