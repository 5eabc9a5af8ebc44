"""TFLite on a GPU: LiteRT's WebGPU accelerator, which on Linux reaches it through Vulkan."""

import atexit
import os
import re
import weakref
from contextlib import ExitStack
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices.compute.backend import Compute, Outputs
from devices.compute.cpu import CpuBackend
from devices.compute.interpreter import find_interpreter
from devices.errors import BadInput, HardwareMissing
from devices.quiet import quiet

# Linux has only WebGPU. The search for OpenCL prints its failure to stdout, which programs read.
os.environ.setdefault("LITERT_DISABLE_OPENCL", "1")

NO_LIBRARY = "a GPU needs ai-edge-litert 2.3 or newer: pip install ai-edge-litert"
NO_ADAPTER = (
    "no GPU that LiteRT can use: it needs Vulkan, the loader and the GPU's driver: "
    "apt install libvulkan1 mesa-vulkan-drivers"
)
ADAPTER_NOTE = re.compile(r"Selected adapter: (.+)")
SPLIT_NOTE = re.compile(r"(\d+) operations will run on the GPU, and the remaining (\d+) operations")
"""Notes of the accelerator; no function of the library gives these facts."""


class GpuBackend:
    """One model on the GPU; operators that the GPU lacks run on one thread of the CPU.

    The share on the GPU is 1 where LiteRT opens the model without the CPU, which it refuses if one
    operator is left over. Else the share is the count of the accelerator. Arithmetic is float32 in
    every variant: a GPU that may choose can take float16, which is another model.
    """

    def __init__(self, model: bytes, name: str) -> None:
        """Opens `model`, the verified bytes of the bundle's member `name`.

        Raises BadInput where the bytes are not a model of the contract or the GPU has none of its
        operators, HardwareMissing where there is no library or no adapter.
        """
        try:
            litert = import_module("ai_edge_litert.compiled_model")
        except ImportError as error:
            raise HardwareMissing(NO_LIBRARY) from error
        self.shape = CpuBackend(model, name).shape
        gpu, cpu = litert.HardwareAccelerator.GPU, litert.HardwareAccelerator.CPU
        parts = ExitStack()
        weakref.finalize(self, _close, parts)
        with quiet():
            environment = litert.Environment.create()
            parts.callback(environment.close)
            try:
                self._model = _open(litert, environment, model, gpu)
                share = 1.0
            except RuntimeError as error:
                if not ADAPTER_NOTE.search(_notes()):
                    raise HardwareMissing(NO_ADAPTER) from error
                try:
                    self._model = _open(litert, environment, model, gpu | cpu)
                except RuntimeError as refusal:
                    reason = str(refusal).splitlines()[-1]
                    raise BadInput(f"{name}: the GPU refuses the model: {reason}") from refusal
                share = _share(_notes(), model)
            parts.callback(self._model.close)
            note = ADAPTER_NOTE.search(_notes())
            self.adapter = note[1] if note else "unknown"
            """The GPU as its driver names it; `CPU / Software` in it is a GPU in name only."""
            if not share:
                raise BadInput(f"{name}: the GPU ({self.adapter}) knows none of its operators")
            ((self._key, signature),) = self._model.get_signature_list().items()
            (entry,) = signature["inputs"]
            self._inputs = {entry: self._model.create_input_buffer_by_name(self._key, entry)}
            self._outputs = {
                output: self._model.create_output_buffer_by_name(self._key, output)
                for output in signature["outputs"]
            }
            for buffer in (*self._inputs.values(), *self._outputs.values()):
                parts.callback(buffer.destroy)
            self._details = self._model.get_output_tensor_details(self._key)
            _mute_the_end()
            # The first inference prepares the GPU, and prints notes.
            self.run(np.zeros(self.shape, np.uint8))
        interpreter = f"ai-edge-litert {import_module('ai_edge_litert').__version__}"
        self.compute = Compute("gpu", interpreter, name, threads=1, share=share)

    def run(self, tensor: NDArray[np.uint8]) -> Outputs:
        """Returns the model's outputs by name; see `Backend.run`."""
        if tensor.shape != self.shape or tensor.dtype != np.uint8:
            raise ValueError(f"uint8 {self.shape} expected, {tensor.dtype} {tensor.shape} given")
        (entry,) = self._inputs.values()
        entry.write(tensor)
        self._model.run_by_name(self._key, self._inputs, self._outputs)
        return {name: self._read(name) for name in self._outputs}

    def _read(self, name: str) -> NDArray[np.float32]:
        """A copy of one output."""
        shape, dtype = self._details[name]["shape"], np.dtype(self._details[name]["dtype"])
        answer = self._outputs[name].read(int(np.prod(shape)), dtype)
        return np.asarray(answer, dtype=np.float32).reshape(shape)


@cache
def _mute_the_end() -> None:
    """Discards the notes of the library at the end of the process; registers that only once."""
    atexit.register(lambda: os.dup2(os.open(os.devnull, os.O_WRONLY), 2))


def _close(parts: ExitStack) -> None:
    """Frees everything, without the notes of the library."""
    with quiet():
        parts.close()


def _open(litert: Any, environment: Any, model: bytes, accelerators: Any) -> Any:
    """The compiled model; raises RuntimeError where these accelerators cannot run all of it."""
    options = litert.Options(hardware_accelerators=accelerators)
    options.gpu_options.enforce_f32 = True
    options.cpu_options.num_threads = 1
    return litert.CompiledModel.from_buffer(model, environment=environment, options=options)


def _notes() -> str:
    """The notes of native code since `quiet` began, which redirects descriptor 2 to a file."""
    return os.pread(2, os.fstat(2).st_size, 0).decode(errors="replace")


def _share(notes: str, model: bytes) -> float:
    """The share of operators on the GPU, 0 where the accelerator does not give it.

    Each float16 weight has an operator that widens it. The GPU reads the weight without it, but the
    accelerator counts it among the operators that are left over. So it is not counted here.
    """
    counts = SPLIT_NOTE.search(notes)
    if not counts:
        return 0.0
    on_gpu, left = int(counts[1]), int(counts[2])
    tensors = find_interpreter()[0].Interpreter(model_content=model).get_tensor_details()
    widened = sum(tensor["dtype"] is np.float16 for tensor in tensors)
    return on_gpu / (on_gpu + left - widened)
