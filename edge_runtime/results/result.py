"""The result of one frame; every sink writes this type."""

from collections.abc import Collection
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from devices import Box
from edge_runtime.results.states import State

NOTICE = "research use only, not for diagnosis"
"""The notice that stands with every result."""
MAX_COORDINATE = 1 << 20
"""Pixels from the corner of a screen beyond which a box is damaged."""
NO_NODULE = "no nodule in view"
"""The reason of a frame in which a locator finds nothing."""


@dataclass(frozen=True)
class FrameLatency:
    """Milliseconds of each part of the way from the capture of a frame to its result."""

    wait: float
    """From the capture until work on the frame began."""
    prepare: float
    """The search for the region, and preprocessing."""
    infer: float
    """The wait for the model, and inference."""
    total: float


@dataclass(frozen=True)
class Nodule:
    """One nodule in a frame, with its label or the reason why it has none."""

    track: int
    """The number of the nodule, the same in every frame that shows it; counts from 1."""
    box: Box
    """Pixels of the screen."""
    window: Box
    """The part of the screen in the tensor of the model, in pixels; it may overhang the screen."""
    label: str | None
    """None where the model abstains."""
    reason: str | None
    """Why there is no label."""
    probability: dict[str, float]
    """The calibrated probability of each label in this frame."""
    smoothed: dict[str, float] | None
    """The same, over the frames so far; the label follows it. None where nothing was decided."""
    interval: dict[str, tuple[float, float]] | None
    """Where that would lie with more views of the nodule, in 95 of 100; None where a marked
    box stays. See `edge_runtime.nodules.pooling`."""
    adjusted: dict[str, float] | None
    """The smoothed probability at `Result.adjusted_prevalence`; None where that is None. No label
    follows it."""
    thresholds: dict[str, float]
    """The smoothed probability from which on a label is given. With two labels there is only the
    threshold of the positive label: below it the label is the other one."""
    locator_score: float | None
    """How sure the locator is of the nodule, from 0 to 1; 1 where the nodule was marked and is
    followed, None where the marked box stays."""
    out_of_scope_score: float | None
    """Distance from the training pictures, over its limit: above 1 the picture is out of scope and
    gets no label. None where the model has no scope."""
    evidence: NDArray[np.float32] | None = field(compare=False)
    """``[h, w]`` over the window: how much each place speaks for the last label, in log-odds. Only
    drawn, never written as numbers. None where there is no label, or the model has no map."""

    @property
    def score(self) -> tuple[str, float, float] | None:
        """The label to show, its smoothed probability, and its threshold.

        With two labels it is the positive label, with more the most probable label. None where
        nothing was decided.
        """
        if self.smoothed is None:
            return None
        label = max(self.thresholds, key=self.smoothed.__getitem__)
        return label, self.smoothed[label], self.thresholds[label]


@dataclass(frozen=True)
class Result:
    """The result of one frame."""

    sequence: int
    """Counts the results of a session from 0."""
    frame: int | None
    """The index of the frame on the device. None where the state of a live session changed because
    no frame came."""
    captured_at: float
    """Monotonic seconds."""
    captured_utc: str
    """The same moment in UTC, ISO 8601."""
    timestamp: float | None
    """Seconds in a recording; see `devices.Frame`."""
    state: State
    reason: str | None
    """Why no nodule has a label; of several the reason of the first."""
    nodules: tuple[Nodule, ...]
    """The nodules that were classified; empty where the frame was withheld from the model."""
    box: Box | None
    """The part of the screen that was examined, in pixels."""
    prevalence: dict[str, float]
    """The share of each label at which `probability` and `smoothed` hold: that of the data which
    the model was calibrated on."""
    adjusted_prevalence: dict[str, float] | None
    """The share of each label at which `adjusted` holds; None where nobody gave it."""
    region: Literal["given", "found"]
    """Whether the user gave that part, or the search found it."""
    searched: bool
    """Whether a locator looks for nodules in the pictures, and no marked box stays in its place."""
    latency_ms: FrameLatency
    rate: str
    """How many frames are classified: `full`, or on a hot device `half`, `quarter`, `single` (one a
    second) or `withheld`."""
    health: tuple[str, ...]
    """The troubles of the device, such as heat, a weak power supply or a wrong clock."""
    backend: str
    """Kind, model file and interpreter, such as `cpu int8.tflite ai-edge-litert 2.3.0`."""
    fallback: str | None
    """Why no preferred backend computes; None where the first backend does."""
    bundle: str
    """Name, version and digest of the bundle."""
    file: str | None = None
    """The name of the file that the frame is of, with `#` and a number from 0 where it holds
    several pictures that each stand alone; None for a live device."""

    @property
    def leading(self) -> Nodule | None:
        """The nodule to speak of where there is room for one; None where there is none.

        With two labels one with the positive label goes first, then one without a label: the other
        label says nothing about it. With more labels one with any goes first. Of several of a kind
        it is the first.
        """
        return min(
            self.nodules, key=lambda each: label_rank(each.label, each.thresholds), default=None
        )

    @property
    def label(self) -> str | None:
        """The label of the leading nodule."""
        return None if self.leading is None else self.leading.label


def label_rank(label: str | None, thresholds: Collection[str]) -> int:
    """The place of a nodule with this label among others; the lowest matters most."""
    if label is None:
        return 1
    return 0 if label in thresholds else 2


def describe_nodules(result: Result) -> str:
    """The label of every nodule, or why it has none, and its score, for people.

    Several nodules stand with their numbers. Outside LIVE it is why there is no label.
    """
    if result.state is not State.LIVE or not result.nodules:
        return f"no label ({result.reason})"
    if len(result.nodules) == 1:
        return describe_nodule(result, result.nodules[0])
    lines = (
        f"nodule {nodule.track}: {describe_nodule(result, nodule)}" for nodule in result.nodules
    )
    return "; ".join(lines)


def describe_nodule(result: Result, nodule: Nodule, separator: str = ", ") -> str:
    """The label of a nodule, or why it has none, and its score, for people."""
    decision = nodule.label or f"no label ({nodule.reason})"
    return separator.join(filter(None, (decision, describe_score(result, nodule))))


def describe_score(result: Result, nodule: Nodule) -> str:
    """The score against its threshold, and the prevalence at which it holds, for people.

    A probability alone would contradict a label: 0.75 lies below a threshold of 0.81.
    """
    if nodule.score is None:
        return ""
    label, score, threshold = nodule.score
    prevalence = result.prevalence[label]
    text = f"score({label}) {score:.2f}, threshold {threshold:.2f}, at prevalence {prevalence:.2f}"
    if nodule.adjusted is not None and result.adjusted_prevalence is not None:
        adjusted, other = nodule.adjusted[label], result.adjusted_prevalence[label]
        text += f"; p({label}) {adjusted:.2f} at prevalence {other:.2f}"
    return text


def to_json(result: Result) -> bytes:
    """One line of JSON in UTF-8: boxes as `[x, y, w, h]`, rounded numbers, no evidence."""
    record: dict[str, Any] = {name: getattr(result, name) for name in _NAMES}
    record["nodules"] = [_plain(nodule) for nodule in result.nodules]
    record["notice"] = NOTICE
    latency = result.latency_ms
    record["latency_ms"] = {name: round(getattr(latency, name), 3) for name in _LATENCIES}
    record["captured_at"] = round(result.captured_at, 6)
    if result.file is not None:  # names are bytes to the system, and need not be UTF-8
        record["file"] = result.file.encode(errors="backslashreplace").decode()
    if result.timestamp is not None:
        record["timestamp"] = round(result.timestamp, 6)
    return msgspec.json.encode(record) + b"\n"


def from_json(line: str | bytes) -> Result:
    """The result of a line of `to_json`: as it was, but for rounding, windows and evidence.

    The box stands for the window. Raises ValueError for any other text, as for a line of a version
    whose results had other parts.
    """
    record = msgspec.json.decode(line)
    try:
        del record["notice"]
        for nodule in record["nodules"]:
            nodule |= {"window": nodule["box"], "evidence": None}
        is_found = any(nodule["locator_score"] is not None for nodule in record["nodules"])
        # A line of an earlier version does not say it.
        record.setdefault("searched", is_found or record["reason"] == NO_NODULE)
        result = msgspec.convert(record, Result)
        if not _is_sound(result) or set(record) - set(_NAMES) - {"nodules"}:
            raise ValueError("not the line of a result: parts that do not fit")
    except (AttributeError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise ValueError(f"not the line of a result: {error}") from error
    return result


def _is_sound(result: Result) -> bool:
    """Whether the boxes and the labels of a line fit together: damage changes names and numbers."""
    datetime.fromisoformat(result.captured_utc)
    boxes = [nodule.box for nodule in result.nodules]
    boxes += [] if result.box is None else [result.box]
    if any(abs(number) > MAX_COORDINATE for box in boxes for number in box):
        return False
    for nodule in result.nodules:
        tables = [nodule.probability, result.prevalence, nodule.smoothed or nodule.probability]
        if nodule.adjusted is not None and result.adjusted_prevalence is not None:
            tables += [nodule.adjusted, result.adjusted_prevalence]
        lacking = any(nodule.thresholds.keys() - shares.keys() for shares in tables)
        if lacking or not nodule.thresholds or nodule.label not in {None, *nodule.probability}:
            return False
    return True


def _plain(nodule: Nodule) -> dict[str, Any]:
    record: dict[str, Any] = {name: getattr(nodule, name) for name in _NODULE_NAMES}
    record["probability"] = _rounded(nodule.probability)
    for name in ("smoothed", "adjusted"):
        if record[name] is not None:
            record[name] = _rounded(record[name])
    if nodule.interval is not None:
        record["interval"] = {
            label: [round(bound, 4) for bound in bounds]
            for label, bounds in nodule.interval.items()
        }
    if nodule.locator_score is not None:
        record["locator_score"] = round(nodule.locator_score, 4)
    if nodule.out_of_scope_score is not None:
        record["out_of_scope_score"] = round(nodule.out_of_scope_score, 4)
    return record


def _rounded(probabilities: dict[str, float]) -> dict[str, float]:
    return {label: round(p, 6) for label, p in probabilities.items()}


_NAMES = [field.name for field in fields(Result) if field.name != "nodules"]
_NODULE_NAMES = [field.name for field in fields(Nodule) if field.name not in ("window", "evidence")]
_LATENCIES = [field.name for field in fields(FrameLatency)]
