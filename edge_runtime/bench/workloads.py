"""Workloads: each handles the frames of a recording in one way, timed in its own process.

    python -m edge_runtime.bench.workloads '{"workload": "every", ...}'

prints one line of JSON. Each workload has its own process, because memory and the time to the first
result are measured too, and so that no workload inherits the threads of another.
"""

import gc
import json
import os
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from devices import BadInput, Box, CaptureDevice, EndOfRecording, Frame, Pixels
from devices.capture import SourceUri, open_device

WorkloadName = Literal[
    "decode", "invoke", "locate", "prepare", "every", "live", "loop", "mediapipe"
]
LIVE_RATE = 30.0
"""Frames a second of the live workload."""
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators that multiply with weights."""
PREPARED_PICTURES = 64
"""Pictures that are prepared before the clock starts, where only inference is timed."""


@dataclass(frozen=True)
class Task:
    """The task of one process."""

    workload: WorkloadName
    bundle: str
    source: str
    roi: str | None
    """The nodule; without it the locator of the bundle finds it, where there is a locator."""
    frames: int
    threads: int
    variant: str | None
    spawned: float
    """Monotonic seconds when the process was started."""


@dataclass(frozen=True)
class RawMeasurement:
    """The figures of one process."""

    frames: int
    """Results, or frames where nothing is inferred."""
    seconds: float
    """From the begin of the first frame to the end of the last."""
    cpu_seconds: float
    """Processor time of all threads in that time."""
    first_result: float
    """Seconds from the start of the process."""
    rss_mb: float
    """Resident memory at the end, 10^6 bytes."""
    growth_mb: float
    """Growth of the memory after the first tenth of the frames, 10^6 bytes."""
    latencies_ms: tuple[float, ...]
    """From capture to result; without a capture the whole time of a frame."""
    dropped: int = 0
    """Live frames that a newer frame replaced."""
    late: int = 0
    """Live results with a label that are older than 100 ms; there must be none."""
    multiply_adds: int = 0
    """Of one picture in the model, where the model is measured alone."""


class LoopedRecording(CaptureDevice):
    """A recording that is repeated until `frames` frames were read."""

    live = False

    def __init__(self, source: str | SourceUri, frames: int) -> None:
        """Raises BadInput where `source` is no recording."""
        self._source, self._frames, self._read = SourceUri(source), frames, 0
        self._device = self._open()
        self.fps = self._device.fps

    def _open(self) -> CaptureDevice:
        device = open_device(self._source)
        if device.live:
            device.close()
            raise BadInput(
                f"{self._source}: live; a recording is needed, the same for each workload"
            )
        return device

    def read(self, timeout: float) -> Frame:
        """Returns the next frame; see `CaptureDevice.read`."""
        if self._read == self._frames:
            raise EndOfRecording(f"{self._source}: {self._frames} frames were read")
        try:
            frame = self._device.read(timeout)
        except EndOfRecording:
            self._device.close()
            self._device = self._open()
            frame = self._device.read(timeout)
        self._read += 1
        return replace(frame, index=self._read - 1, timestamp=(self._read - 1) / self.fps)

    def close(self) -> None:
        """Closes the recording."""
        self._device.close()


class LiveRecording(LoopedRecording):
    """A recording that plays like a live device: one frame every 1 / LIVE_RATE seconds."""

    live = True

    def __init__(self, source: str | SourceUri, frames: int) -> None:
        super().__init__(source, frames)
        self.fps = LIVE_RATE
        self._began: float | None = None

    def read(self, timeout: float) -> Frame:
        """Returns the next frame when its time has come; see `CaptureDevice.read`."""
        frame = super().read(timeout)
        self._began = self._began or time.monotonic()
        time.sleep(max(0.0, self._began + frame.index / LIVE_RATE - time.monotonic()))
        now = time.monotonic()
        return replace(frame, captured_at=now, timestamp=now)


class Stopwatch:
    """Takes the time of each frame, and of all frames."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.latencies = array("f")  # small, as the memory of the process is measured too
        self._first = 0.0
        self._early = 0.0
        gc.collect()
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def frame(self, latency_ms: float) -> None:
        """Notes a result."""
        self.latencies.append(latency_ms)
        if len(self.latencies) == 1:
            self._first = time.monotonic() - self._task.spawned
        if len(self.latencies) == self._task.frames // 10:
            self._early = resident_megabytes()

    def each(self, steps: Iterator[object]) -> None:
        """Runs through `steps`; each step ends one frame."""
        before = time.perf_counter()
        for _ in steps:
            now = time.perf_counter()
            self.frame(1000 * (now - before))
            before = now

    def outcome(self, dropped: int = 0, late: int = 0) -> RawMeasurement:
        """The figures so far."""
        seconds = time.perf_counter() - self._began
        cpu = time.process_time() - self._cpu
        now = resident_megabytes()
        return RawMeasurement(
            frames=len(self.latencies),
            seconds=seconds,
            cpu_seconds=cpu,
            first_result=self._first,
            rss_mb=now,
            growth_mb=now - self._early if self._early else 0.0,
            latencies_ms=tuple(round(latency, 4) for latency in self.latencies.tolist()),
            dropped=dropped,
            late=late,
        )


def resident_megabytes() -> float:
    """The resident memory of this process in 10^6 bytes (proc(5), statm)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run_task(task: Task) -> RawMeasurement:
    """Runs the workload of `task`."""
    return WORKLOADS[task.workload](task)


def _decode(task: Task) -> RawMeasurement:
    """Decoding alone: with OpenCV for a video, else with the capture device."""
    watch = Stopwatch(task)
    watch.each(_plain_frames(task))
    return watch.outcome()


def _plain_frames(task: Task) -> Iterator[Pixels]:
    """The frames as the simplest program reads them."""
    if Path(task.source).suffix.lower() not in (".mp4", ".avi", ".mov", ".mkv", ".m4v"):
        device = LoopedRecording(task.source, task.frames)
        for _ in range(task.frames):
            yield device.read(1.0).pixels
        return
    left = task.frames
    while left:
        capture = cv2.VideoCapture(task.source)
        while left:
            ok, pixels = capture.read()
            if not ok:
                break
            left -= 1
            yield np.asarray(pixels, np.uint8)


def _model(task: Task, locator: bool = False) -> bytes:
    """The model file of the classifier, or of the locator."""
    from edge_runtime.bundle.archive import open_bundle

    bundle = open_bundle(Path(task.bundle))
    stage = bundle.manifest.locator if locator else bundle.manifest.classifier
    assert stage is not None  # else nobody asks for a locator
    variants = stage.variants
    return bundle.read(variants.get(task.variant or "int8") or next(iter(variants.values())))  # type: ignore[call-overload]


@dataclass(frozen=True)
class BareModel:
    """A model in the bare interpreter."""

    infer: Callable[[NDArray[np.uint8]], object]
    side: int
    """Of the picture that it takes, in pixels."""
    multiply_adds: int
    """Of one picture."""


def _interpreter(task: Task, locator: bool = False) -> BareModel:
    from devices.compute.interpreter import find_interpreter

    interpreter = find_interpreter()[0].Interpreter(
        model_content=_model(task, locator), num_threads=task.threads
    )
    multiply_adds = _multiply_adds(interpreter)  # before XNNPACK takes operators of the graph
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    outputs = [output["index"] for output in interpreter.get_output_details()]

    def infer(tensor: NDArray[np.uint8]) -> object:
        interpreter.set_tensor(entry["index"], tensor)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return BareModel(infer, int(entry["shape"][1]), multiply_adds)


def _multiply_adds(interpreter: Any) -> int:
    """The multiplications of weights with a picture, each with an addition, in a model."""
    shapes = {entry["index"]: entry["shape"] for entry in interpreter.get_tensor_details()}
    count = 0
    for operator in interpreter._get_ops_details():  # there is no public way
        if operator["op_name"] in WEIGHTED:
            kernel = shapes[operator["inputs"][1]].tolist()[1:]
            if operator["op_name"] == "DEPTHWISE_CONV_2D":
                kernel.pop()  # a channel of its own for each output
            count += int(np.prod([*shapes[operator["outputs"][0]].tolist(), *kernel]))
    return count


def _window(task: Task, pixels: Pixels) -> Pixels:
    """The part that a simple program cuts out: the region without context, or the whole frame."""
    if task.roi is None:
        return pixels
    x, y, w, h = (int(word) for word in task.roi.split(","))
    return pixels[y : y + h, x : x + w]


def _resized(task: Task, pixels: Pixels, side: int) -> NDArray[np.uint8]:
    gray = cv2.cvtColor(_window(task, pixels), cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8).reshape(1, side, side, 1)


def _invoke(task: Task, locator: bool = False) -> RawMeasurement:
    """Inference alone, on pictures that are prepared."""
    model = _interpreter(task, locator)
    few = replace(task, frames=min(PREPARED_PICTURES, task.frames))
    ready = [_resized(task, pixels, model.side) for pixels in _plain_frames(few)]
    model.infer(ready[0])
    watch = Stopwatch(task)
    watch.each(model.infer(ready[n % len(ready)]) for n in range(task.frames))
    return replace(watch.outcome(), multiply_adds=model.multiply_adds)


def _prepare(task: Task) -> RawMeasurement:
    """Preprocessing and the bare interpreters, one after the other, at the live frame rate.

    The live workload is compared with it, because a processor that sleeps between two frames is
    slower than one that does not.
    """
    from edge_runtime.bundle.archive import open_bundle
    from edge_runtime.bundle.preprocess import parse

    manifest = open_bundle(Path(task.bundle)).manifest
    box = None if task.roi is None else Box(*(int(word) for word in task.roi.split(",")))
    steps = [(parse(manifest.classifier.preprocessing), _interpreter(task).infer, box)]
    if box is None and manifest.locator is not None:
        steps = [
            (parse(manifest.locator.preprocessing), _interpreter(task, locator=True).infer, None),
            *steps,
        ]

    def work(pixels: Pixels) -> None:
        for preprocessing, infer, part in steps:
            infer(preprocessing(pixels, part))

    device = LiveRecording(task.source, task.frames)
    work(device.read(1.0).pixels)
    watch = Stopwatch(task)
    for _ in range(task.frames - 1):
        frame = device.read(1.0)
        work(frame.pixels)
        watch.frame(1000 * (time.monotonic() - frame.captured_at))
    return watch.outcome()


def _loop(task: Task) -> RawMeasurement:
    """The simplest loop: read, turn grey, resize, infer."""
    model = _interpreter(task)
    watch = Stopwatch(task)
    watch.each(model.infer(_resized(task, pixels, model.side)) for pixels in _plain_frames(task))
    return watch.outcome()


def _ours(task: Task, device: CaptureDevice) -> RawMeasurement:
    """The session of `sonolite run`; the results go as JSON to /dev/null."""
    from edge_runtime.bundle.archive import open_bundle
    from edge_runtime.models.backends import FallbackChain
    from edge_runtime.models.classifier import CPU
    from edge_runtime.results.result import Result, to_json
    from edge_runtime.results.states import State
    from edge_runtime.session.assemble import assemble
    from edge_runtime.session.frame_slot import REPLACED

    bundle = open_bundle(Path(task.bundle))
    chain = FallbackChain(bundle, bundle.manifest.classifier, [CPU], task.variant, task.threads)  # type: ignore[arg-type]
    stop = threading.Event()
    late = 0
    with open(os.devnull, "wb") as nowhere:

        class Written:
            wants_pixels, latest_only = False, False

            def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
                nonlocal late
                nowhere.write(to_json(result))
                if result.frame is None:  # the state changed because no frame came in time
                    return
                watch.frame(result.latency_ms.total)
                late += result.state is State.LIVE and result.latency_ms.total > 100

        with device:
            # The models are opened before the time is taken, as the bare interpreter is.
            whole = bundle.manifest.locator is None
            session = assemble(device, chain, task.roi, budget=0.1, whole_picture=whole)
            watch = Stopwatch(task)
            summary, ended = session.run([Written()], stop)
    if ended is not None and not isinstance(ended, EndOfRecording):
        raise ended
    dropped = summary.not_judged.get(REPLACED, 0)
    return watch.outcome(dropped, late)


def _mediapipe(task: Task) -> RawMeasurement:
    """MediaPipe's ImageClassifier for video, on the same graph for three channels."""
    import importlib

    from edge_runtime.bench.wide import widen_input

    try:
        mp: Any = importlib.import_module("mediapipe")
        schema = importlib.import_module("mediapipe.tasks.metadata.metadata_schema_py_generated")
    except ImportError as error:
        raise BadInput(f"mediapipe is not installed here: {error}") from error
    tasks = mp.tasks
    options = tasks.vision.ImageClassifierOptions(
        base_options=tasks.BaseOptions(model_asset_buffer=widen_input(_model(task), schema)),
        running_mode=tasks.vision.RunningMode.VIDEO,
    )
    with tasks.vision.ImageClassifier.create_from_options(options) as classifier:

        def steps() -> Iterator[object]:
            for number, pixels in enumerate(_plain_frames(task)):
                cut = cv2.cvtColor(_window(task, pixels), cv2.COLOR_BGR2RGB)
                image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(cut))
                yield classifier.classify_for_video(image, round(1000 * number / LIVE_RATE))

        watch = Stopwatch(task)
        watch.each(steps())
        return watch.outcome()


WORKLOADS: dict[WorkloadName, Callable[[Task], RawMeasurement]] = {
    "decode": _decode,
    "invoke": _invoke,
    "locate": lambda task: _invoke(task, locator=True),
    "prepare": _prepare,
    "every": lambda task: _ours(task, LoopedRecording(task.source, task.frames)),
    "live": lambda task: _ours(task, LiveRecording(task.source, task.frames)),
    "loop": _loop,
    "mediapipe": _mediapipe,
}


if __name__ == "__main__":
    print(json.dumps(asdict(run_task(Task(**json.loads(sys.argv[1]))))))
