"""What this machine can capture with and compute on, and why not."""

import ctypes.util
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from devices import SonoliteError
from devices.capture import Camera
from devices.compute import Backend, GpuBackend
from edge_runtime.bundle import Bundle, golden_tensors, read_golden
from edge_runtime.classify import Classifier

LIBRARIES = {
    "video files": ("opencv-python-headless", ""),
    "DICOM files": ("pydicom", "pip install 'sonolite[dicom]'"),
    "network streams": ("av", "pip install 'sonolite[stream]'"),
}
"""What a kind of source needs, and how to get it where it is not of the base install."""
RUNS = 30
"""Inferences that are timed, after as many that are not."""


@dataclass(frozen=True)
class Finding:
    """One thing that a session may use."""

    part: str
    """`machine`, `capture` or `compute`."""
    name: str
    there: bool
    says: str
    """What it is and how fast; or why it cannot be used, and how to get it."""


def examine(bundle: Bundle) -> Iterator[Finding]:
    """Looks at the machine, its sources of frames, and each model of `bundle` on each backend."""
    cores = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    yield Finding("machine", platform.system(), True, cores)
    yield from _captures(Path("/dev"))
    yield from _computes(bundle)


def _captures(devices: Path) -> Iterator[Finding]:
    """Every camera, and what the other kinds of source need."""
    cameras = sorted(devices.glob("video*"))
    if not cameras:
        yield Finding("capture", "cameras", False, f"no {devices}/video*; is a grabber plugged in?")
    for path in cameras:
        try:
            with Camera(str(path)) as camera:
                yield Finding("capture", str(path), True, f"{camera.fps:g} frames a second")
        except SonoliteError as error:
            yield Finding("capture", str(path), False, str(error))
    for kind, (distribution, how) in LIBRARIES.items():
        try:
            yield Finding("capture", kind, True, f"{distribution} {version(distribution)}")
        except PackageNotFoundError:
            yield Finding("capture", kind, False, how)


def _computes(bundle: Bundle) -> Iterator[Finding]:
    """Each variant on the CPU and, if it computes in float, on a GPU; and the Edge TPU's library.

    A variant that is there has answered the golden frames as the float model does.
    """
    stage = bundle.manifest.stages[0]
    golden = read_golden(bundle)
    floats = [name for name in stage.variants if name in ("float32", "float16")]
    for variant in stage.variants:
        try:
            classifier = Classifier(bundle, stage, variant)
        except SonoliteError as error:
            yield Finding("compute", f"cpu {variant}", False, str(error))
            continue
        tensors = golden_tensors(golden.frames, golden.box, classifier.preprocessing)
        threads = classifier.backend.compute.threads
        speed = f"{_milliseconds(classifier.backend, tensors):.1f} ms a picture, {threads} threads"
        says = f"{classifier.backend.compute.interpreter}, {speed}"
        yield Finding("compute", f"cpu {variant}", True, says)
        if variant not in floats:
            continue
        member = stage.variants[variant]
        try:
            gpu = GpuBackend(bundle.read(member), member)
            answers = np.concatenate([gpu.run(its[np.newaxis])["probability"] for its in tensors])
            off = float(np.abs(answers - golden.probability).max())
            if not off <= stage.golden_tolerance[variant]:
                says = f"{gpu.adapter} answers the golden frames differently by {off:.4f}"
                yield Finding("compute", f"gpu {variant}", False, says)
                continue
            speed = f"{_milliseconds(gpu, tensors):.1f} ms a picture"
            yield Finding("compute", f"gpu {variant}", True, f"{gpu.adapter}, {speed}")
        except (SonoliteError, RuntimeError) as error:
            yield Finding("compute", f"gpu {variant}", False, str(error).splitlines()[0])
    if not floats:
        yield Finding("compute", "gpu", False, "the bundle has no float variant, which it needs")
    if library := ctypes.util.find_library("edgetpu"):
        yield Finding("compute", "edgetpu", False, f"{library} is there, and is not used yet")
    else:
        says = "no libedgetpu.so.1; coral.ai/software tells how to install it"
        yield Finding("compute", "edgetpu", False, says)


def _milliseconds(backend: Backend, tensors: NDArray[np.uint8]) -> float:
    """The median time of one inference."""
    times = []
    for number in range(2 * RUNS):
        began = time.perf_counter()
        backend.run(tensors[number % len(tensors)][np.newaxis])
        times.append(time.perf_counter() - began)
    return 1000 * float(np.median(times[RUNS:]))
