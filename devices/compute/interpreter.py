"""A TFLite interpreter: ai-edge-litert, or tflite-runtime on boards without ai-edge-litert."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.compute.backend import Outputs
from devices.errors import BadInput, HardwareMissing
from devices.quiet import quiet

INTERPRETERS = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
)
"""Module and distribution, the preferred one first."""


def find_interpreter() -> tuple[Any, str]:
    """Returns the interpreter's module and its name with version.

    Raises HardwareMissing where neither library is installed.
    """
    for module, distribution in INTERPRETERS:
        try:
            package = import_module(module.partition(".")[0])
            return import_module(module), f"{distribution} {package.__version__}"
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            raise HardwareMissing(f"{distribution} is installed but broken: {error}") from error
    raise HardwareMissing(
        "no TFLite interpreter: pip install ai-edge-litert, or on an old board "
        "pip install 'sonolite[tflite-runtime]'"
    )


class Interpreter:
    """One model of the contract in an interpreter; the tensors are allocated once.

    `operators` are those of the model, each with `op_name`, `inputs` and `outputs`, and the parts
    on delegates. The list is empty where the library does not give it.
    """

    def __init__(
        self, model: bytes, name: str, threads: int, delegates: Sequence[Any] = ()
    ) -> None:
        """Opens `model`, the verified bytes of the bundle's member `name`.

        Raises BadInput where the bytes are not a model of the contract or a delegate refuses them,
        HardwareMissing where no interpreter is installed.
        """
        module, self.library = find_interpreter()
        try:
            with quiet():
                self._interpreter = module.Interpreter(
                    model_content=model,
                    num_threads=threads,
                    experimental_delegates=list(delegates) or None,
                )
                # Before the tensors are allocated, because XNNPACK takes its parts then.
                details = getattr(self._interpreter, "_get_ops_details", list)
                self.operators: list[dict[str, Any]] = list(details())
                self._interpreter.allocate_tensors()
        except SystemError as error:  # tflite-runtime beside numpy 2
            raise HardwareMissing(
                f"{self.library} does not work here: {first_line(error)}"
            ) from error
        except (ValueError, RuntimeError) as error:
            raise BadInput(
                f"{name}: the interpreter refuses the model: {first_line(error)}"
            ) from error
        signatures = self._interpreter.get_signature_list()
        inputs = [entry for signature in signatures.values() for entry in signature["inputs"]]
        details = self._interpreter.get_input_details()
        if len(inputs) != 1 or len(details) != 1 or details[0]["dtype"] is not np.uint8:
            raise BadInput(f"{name}: not a model of the contract: one uint8 input")
        self._input: int = details[0]["index"]
        runner = self._interpreter.get_signature_runner(next(iter(signatures)))
        outputs = runner.get_output_details()
        if any(tensor["dtype"] is not np.float32 for tensor in outputs.values()):
            raise BadInput(f"{name}: not a model of the contract: float32 outputs")
        self._outputs = {output: int(tensor["index"]) for output, tensor in outputs.items()}
        self.shape: tuple[int, ...] = tuple(int(size) for size in details[0]["shape"])

    def run(self, tensor: NDArray[np.uint8]) -> Outputs:
        """Returns the model's outputs by name; see `Backend.run`."""
        if tensor.shape != self.shape or tensor.dtype != np.uint8:
            raise ValueError(f"uint8 {self.shape} expected, {tensor.dtype} {tensor.shape} given")
        self._interpreter.set_tensor(self._input, tensor)
        self._interpreter.invoke()
        return {
            name: np.asarray(self._interpreter.get_tensor(index), dtype=np.float32)
            for name, index in self._outputs.items()
        }


def first_line(error: Exception) -> str:
    """The first line of an error; its kind where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
