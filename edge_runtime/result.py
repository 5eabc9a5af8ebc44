"""What is said of one frame; every sink writes from this one type."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices import Box
from edge_runtime.session import State

NOTICE = "research use only, not for diagnosis"
"""Stands wherever a result is shown."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds, by stage of the way from the capture of the frame to its result."""

    wait: float
    """From the capture until work on the frame began."""
    prepare: float
    """Finding the region, and preprocessing."""
    infer: float
    """Waiting for the model, and inference."""
    total: float


@dataclass(frozen=True)
class Result:
    """One frame's result."""

    sequence: int
    """Counts the results of a session from 0."""
    frame: int | None
    """The frame's index on its device; None where the state of a live session changed because no
    frame came."""
    captured_at: float
    """Monotonic seconds."""
    captured_utc: str
    """The same moment, ISO 8601, for the record."""
    timestamp: float | None
    """Seconds in a recording; see `devices.Frame`."""
    state: State
    label: str | None
    """None where the session abstains."""
    reason: str | None
    """Why there is no label."""
    probability: dict[str, float] | None
    """Of each label, as the model answered for this frame; None where it was not asked."""
    strangeness: float | None
    """Distance from the pictures the model learnt from, over its limit: above 1 it is out of scope
    and gets no label. None where the model has no scope."""
    smoothed: float | None
    """Of the positive label, over the frames; what the label follows."""
    threshold: float
    """The probability from which on the label is the positive one, chosen where it was trained."""
    box: Box | None
    """What was judged, in pixels of the screen."""
    window: Box | None
    """What the model saw of it and around it, which may overhang the screen."""
    evidence: NDArray[np.float32] | None = field(compare=False)
    """``[h, w]`` over the window, by how much each place speaks for the positive label, in
    log-odds; for the overlay alone. None where there is no label, or the model has no such map."""
    region: Literal["given", "found"]
    """Whether the user gave the box, or the whole picture was judged as it was found."""
    latency_ms: Latency
    rate: str
    """How many frames are judged: `full`, or on a hot device `half`, `quarter`, `single` (one a
    second) or `withheld`."""
    health: tuple[str, ...]
    """What is wrong with the device, such as its temperature, its supply or its clock."""
    backend: str
    """Kind, model file and interpreter, such as `cpu int8.tflite ai-edge-litert 2.3.0`."""
    fallback: str | None
    """Why no preferred backend computes, each with what it said; None where the first one does."""
    bundle: str
    """Name, version and digest of the bundle."""
    file: str | None = None
    """Name of the file that the frame is of, with `#` and a number from 0 where it holds several
    pictures that each stand alone; None for a live device."""


def to_json(result: Result) -> bytes:
    """One line of JSON, UTF-8: the box as `[x, y, w, h]`, rounded numbers, no evidence."""
    record: dict[str, Any] = {name: getattr(result, name) for name in _NAMES}
    record["notice"] = NOTICE
    latency = result.latency_ms
    record["latency_ms"] = {name: round(getattr(latency, name), 3) for name in _STAGES}
    record["captured_at"] = round(result.captured_at, 6)
    if result.probability is not None:
        record["probability"] = {name: round(p, 6) for name, p in result.probability.items()}
    if result.strangeness is not None:
        record["strangeness"] = round(result.strangeness, 4)
    if result.smoothed is not None:
        record["smoothed"] = round(result.smoothed, 6)
    if result.file is not None:  # names are bytes to the system, and need not be UTF-8
        record["file"] = result.file.encode(errors="backslashreplace").decode()
    if result.timestamp is not None:
        record["timestamp"] = round(result.timestamp, 6)
    return msgspec.json.encode(record) + b"\n"


_NAMES = [field.name for field in fields(Result) if field.name not in ("window", "evidence")]
_STAGES = [field.name for field in fields(Latency)]
