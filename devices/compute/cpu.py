"""TFLite on the CPU."""

from devices.compute.backend import Compute
from devices.compute.interpreter import Interpreter


class CpuBackend(Interpreter):
    """One model on the CPU."""

    def __init__(self, model: bytes, name: str, threads: int = 2) -> None:
        """Opens `model`; see `Interpreter` for what it raises."""
        super().__init__(model, name, threads)
        self.compute = Compute("cpu", self.library, name, threads, share=1.0)
