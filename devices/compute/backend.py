"""The interface of a backend, which runs a model."""

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
    """The facts of a backend; part of every result."""

    kind: BackendKind
    interpreter: str
    """The library and its version, such as `ai-edge-litert 2.3.0`."""
    model: str
    """The member of the bundle that it runs."""
    threads: int
    share: float
    """The share of the operators that run on `kind`, 0..1."""

    @property
    def description(self) -> str:
        """Kind, model file and interpreter, such as `cpu int8.tflite ai-edge-litert 2.3.0`."""
        return f"{self.kind} {self.model} {self.interpreter}"


class Backend(Protocol):
    """Runs one model."""

    @property
    def compute(self) -> Compute:
        """The facts of this backend."""

    def run(self, tensor: NDArray[np.uint8]) -> Outputs:
        """Returns the model's outputs for `tensor`, uint8 ``[1, H, W, 1]``.

        The caller may keep the arrays. Raises ValueError where the shape is not that of the model.
        """
