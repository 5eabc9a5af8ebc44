"""Opens a model in a process of its own, with limits of memory and time.

A broken model can crash an interpreter, which no exception tells: the process ends. So the first
opening on a machine happens where nothing else is lost.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from devices.compute.backend import BackendKind
from devices.compute.cpu import CpuBackend
from devices.compute.delegate import DelegateBackend
from devices.compute.gpu import GpuBackend
from devices.compute.interpreter import first_line
from devices.errors import BadInput, HardwareMissing, SonoliteError
from devices.own_process import limit_this_process, module_command

FIRST_SECONDS, PROCESS_SECONDS = 40, 55
"""Seconds in which the model must have opened and answered the pictures; and in which the whole
process must have ended, whose start takes some of them."""
FIRST_MEMORY, ACCELERATOR_MEMORY = 1 << 30, 4 << 30
"""Bytes of memory beside four times the size of the model: on a CPU, and with the library of an
accelerator. The packaged model needs 0.1 GB on a CPU."""


def open_backend(
    kind: BackendKind,
    library: str,
    options: Sequence[tuple[str, str]],
    model: bytes,
    name: str,
    threads: int,
) -> CpuBackend | GpuBackend | DelegateBackend:
    """Opens `model`, the verified bytes of the bundle's member `name`, on a backend.

    `library` and `options` are those of a delegate. Raises as the backends do.
    """
    if kind == "cpu":
        return CpuBackend(model, name, threads)
    if kind == "gpu":
        return GpuBackend(model, name)
    return DelegateBackend(model, name, library, dict(options), kind)


def try_in_process(
    kind: BackendKind,
    library: str,
    options: Sequence[tuple[str, str]],
    model: bytes,
    name: str,
    threads: int,
    tensors: NDArray[np.uint8],
) -> None:
    """Opens a model as `open_backend` does, in a process of its own, and has it answer `tensors`.

    `tensors` is uint8 ``[N, H, W, 1]``. Raises what the opening raises there, and BadInput where
    the process ends otherwise or keeps no limit.
    """
    memory = (FIRST_MEMORY if kind == "cpu" else ACCELERATOR_MEMORY) + 4 * len(model)
    header = {
        "backend": [kind, library, list(options)],
        "name": name,
        "threads": threads,
        "model": len(model),
        "shape": tensors.shape,
        "memory": memory,
        "seconds": FIRST_SECONDS,
    }
    try:
        done = subprocess.run(  # noqa: S603  our own module
            module_command("devices.compute.first_opening"),
            input=json.dumps(header).encode() + b"\n" + model + tensors.tobytes(),
            capture_output=True,
            check=False,
            timeout=PROCESS_SECONDS,
            start_new_session=True,  # Ctrl-C means the command alone
        )
        code = done.returncode
    except subprocess.TimeoutExpired:
        code = -signal.SIGALRM
    except OSError as error:
        raise HardwareMissing(f"{name}: no process to try it in: {error.strerror}") from error
    if code == -signal.SIGALRM:
        raise BadInput(f"{name}: the model was not open and tried in {FIRST_SECONDS} s")
    if code < 0:
        raise BadInput(
            f"{name}: the model crashes its interpreter ({signal.Signals(-code).name}; "
            f"at most {memory >> 20} MB of memory)"
        )
    if code:
        notes = done.stderr.decode(errors="replace").strip().splitlines() or ["it does not say why"]
        raise BadInput(f"{name}: the model cannot be tried: {notes[-1]}")
    if done.stdout:
        refusal = json.loads(done.stdout)
        raise (HardwareMissing if refusal["missing"] else BadInput)(refusal["line"])


def main() -> NoReturn:
    """Tries the model on stdin; writes a refusal as JSON to stdout."""
    header = json.loads(sys.stdin.buffer.readline())
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(header["seconds"])
    kind, library, options = header["backend"]
    name = header["name"]
    model = sys.stdin.buffer.read(header["model"])
    tensors = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(header["shape"])
    answer = os.dup(1)
    os.dup2(2, 1)  # libraries print to stdout, too
    limit_this_process(header["memory"])
    refusal = None
    try:
        backend = open_backend(kind, library, options, model, name, header["threads"])
        if backend.shape == (1, *tensors.shape[1:]):  # else it is refused where it is to be used
            for tensor in tensors:
                backend.run(tensor[np.newaxis])
        del backend  # a crash may wait for the end of the interpreter
    except SonoliteError as error:
        refusal = {"missing": isinstance(error, HardwareMissing), "line": str(error)}
    except (RuntimeError, ValueError, MemoryError) as error:
        refusal = {"missing": False, "line": f"{name} cannot be run: {first_line(error)}"}
    if refusal is not None:
        os.write(answer, json.dumps(refusal).encode())
    os._exit(0)  # the ends of drivers are no matter of the model


if __name__ == "__main__":
    main()
