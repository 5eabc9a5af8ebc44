"""The seam between a model and what computes it."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

BackendKind = Literal["cpu", "gpu", "edgetpu", "delegate"]
"""What runs the operators of a model."""
Variant = Literal["float32", "float16", "dynamic", "int8"]
"""The arithmetic of a model file: one network is converted into up to four of them."""
Outputs = dict[str, NDArray[np.float32]]
"""float32 arrays by output name, such as `probability` ``[1, classes]``."""


@dataclass(frozen=True)
class Compute:
    """What a backend really is; written into every result."""

    kind: BackendKind
    interpreter: str
    """The library and its version, such as `ai-edge-litert 2.3.0`."""
    model: str
    """The file of the bundle that it runs."""
    threads: int
    share: float
    """How much of the graph runs on `kind`, 0..1 of its operators."""


class Backend(Protocol):
    """Something that runs one model."""

    @property
    def compute(self) -> Compute:
        """What this backend really is."""

    def run(self, tensor: NDArray[np.uint8]) -> Outputs:
        """Returns the model's outputs for `tensor`, uint8 ``[1, H, W, 1]``.

        The arrays are the caller's to keep. Raises ValueError where the shape is not the model's.
        """
