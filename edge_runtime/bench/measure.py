"""Runs the workloads in rounds, one process after the other, so that a disturbance meets all."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from devices import BadInput, CheckFailed
from devices.own_process import module_command
from devices.regular_file import read_regular
from devices.schema_io import read_json, write_json
from edge_runtime.bench.workloads import LoopedRecording, RawMeasurement, Task, WorkloadName

OWN_WORKLOADS: tuple[WorkloadName, ...] = ("decode", "invoke", "prepare", "every", "live")
LOCATED_WORKLOADS: tuple[WorkloadName, ...] = ("locate",)
"""Those of a bundle whose locator finds the nodules."""
PEER_WORKLOADS: dict[str, WorkloadName] = {"loop": "loop", "mediapipe": "mediapipe"}
"""Other software to compare with, by the word of `--against`."""
LIVE_FRAMES = 300
"""Frames of the workloads that run at the live frame rate: ten seconds a round."""
HISTOGRAM_BINS = 60
"""Bins of a histogram, from 0 to the largest latency of the workload."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One workload in one round."""

    frames: int
    ms_a_frame: float
    p50: float
    p95: float
    p99: float
    longest: float
    cpu_ms_a_frame: float
    first_result: float
    rss_mb: float
    growth_mb: float
    dropped: int
    late: int
    histogram: Annotated[
        tuple[int, ...], Meta(min_length=HISTOGRAM_BINS, max_length=HISTOGRAM_BINS)
    ]
    """Latencies in equal bins from 0 to `longest`."""
    multiply_adds: int = 0
    """As of `RawMeasurement`."""


@dataclass(frozen=True, slots=True)
class CommandMeasurement:
    """`sonolite run` as a shell starts it."""

    first_result: float
    """Seconds from the start of the process to the first line of JSON."""
    rss_mb: float
    """The largest resident memory, 10^6 bytes."""


@dataclass(frozen=True, slots=True)
class Bench:
    """A whole benchmark: the machine, the settings, and every round of every workload."""

    machine: dict[str, str]
    bundle: str
    source: str
    frames: int
    threads: int
    rounds: dict[str, tuple[Measurement, ...]]
    commands: tuple[CommandMeasurement, ...]


def read_bench(path: Path) -> Bench:
    """Reads the file of `--out`. Raises BadInput for another file."""
    try:
        content = read_regular(path)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from error
    return read_json(content, Bench, str(path))


def write_bench(bench: Bench) -> bytes:
    """The bytes of the file of `--out`."""
    return write_json(bench, indent=1)


def measure(
    bundle: Path,
    name: str,
    source: str,
    roi: str | None,
    frames: int,
    threads: int,
    rounds: int,
    against: Sequence[str],
    variant: str | None = None,
    located: bool = False,
    environment: dict[str, str] | None = None,
    progress: Callable[[str], object] = lambda _: None,
) -> Bench:
    """Runs every workload `rounds` times.

    `name` is the name of the bundle in the file. `located` says that the locator of the bundle
    finds the nodules: there is one, and no `roi`. `environment` adds variables for `sonolite run`.
    `progress` is called with the next workload. Raises BadInput where a workload cannot run.
    """
    with LoopedRecording(source, 1) as recording:
        recording.read(1.0)  # a wrong recording fails here, with a clear message
    every: dict[str, list[Measurement]] = {}
    commands: list[CommandMeasurement] = []
    for number in range(rounds):
        peers = [PEER_WORKLOADS[peer] for peer in against]
        for workload in (*OWN_WORKLOADS, *LOCATED_WORKLOADS * located, *peers):
            progress(f"round {number + 1} of {rounds}: {workload}")
            paced = workload in ("live", "prepare")
            count = min(frames, LIVE_FRAMES) if paced else frames
            task = Task(
                workload, str(bundle), source, roi, count, threads, variant, time.monotonic()
            )
            every.setdefault(workload, []).append(_summarise(_run(task)))
        progress(f"round {number + 1} of {rounds}: sonolite run")
        commands.append(_command(bundle, source, roi, threads, environment or {}))
    return Bench(
        machine={
            "processor": _processor(),
            "cores": str(os.cpu_count()),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
        bundle=name,
        source=Path(source).name,
        frames=frames,
        threads=threads,
        rounds={workload: tuple(measurements) for workload, measurements in every.items()},
        commands=tuple(commands),
    )


def _run(task: Task) -> RawMeasurement:
    """Runs one workload in its own process."""
    words = [*module_command("edge_runtime.bench.workloads"), json.dumps(asdict(task))]
    done = subprocess.run(words, capture_output=True, text=True)  # noqa: S603  our own module
    if done.returncode:
        raise BadInput(f"{task.workload}: cannot be measured: {_last_line(done.stderr)}")
    fields = json.loads(done.stdout.splitlines()[-1])
    return RawMeasurement(**{**fields, "latencies_ms": tuple(fields["latencies_ms"])})


def _summarise(outcome: RawMeasurement) -> Measurement:
    latencies = sorted(outcome.latencies_ms)
    if not latencies:
        raise CheckFailed("a workload gave no result")
    longest = latencies[-1]
    histogram = [0] * HISTOGRAM_BINS
    for latency in latencies:
        histogram[min(HISTOGRAM_BINS - 1, int(HISTOGRAM_BINS * latency / longest))] += 1
    return Measurement(
        frames=outcome.frames,
        ms_a_frame=1000 * outcome.seconds / outcome.frames,
        p50=_percentile(latencies, 50),
        p95=_percentile(latencies, 95),
        p99=_percentile(latencies, 99),
        longest=longest,
        cpu_ms_a_frame=1000 * outcome.cpu_seconds / outcome.frames,
        first_result=outcome.first_result,
        rss_mb=outcome.rss_mb,
        growth_mb=outcome.growth_mb,
        dropped=outcome.dropped,
        late=outcome.late,
        histogram=tuple(histogram),
        multiply_adds=outcome.multiply_adds,
    )


def _percentile(ordered: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile of sorted values."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _command(
    bundle: Path, source: str, roi: str | None, threads: int, environment: dict[str, str]
) -> CommandMeasurement:
    """Starts the command as a person does, and reads the first line."""
    words = [*module_command("edge_runtime"), "run", str(bundle), "--source", source, "--json"]
    words += ["--threads", str(threads)] + ([] if roi is None else ["--roi", roi])
    began = time.monotonic()
    with subprocess.Popen(  # noqa: S603  our own command
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        first = time.monotonic() - began
        most = 0.0
        for _ in process.stdout:
            most = max(most, _peak_megabytes(process.pid))
        if not line:
            raise BadInput(f"sonolite run: {_last_line(process.stderr.read())}")
    return CommandMeasurement(first, most)


def _last_line(errors: str) -> str:
    """The last line of the errors of a process; one that was killed may have told none."""
    return (errors.strip().splitlines() or ["it says nothing"])[-1]


def _peak_megabytes(pid: int) -> float:
    """The largest resident memory of a process, in 10^6 bytes (proc(5), VmHWM)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    peaks = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peaks[0].split()[1]) * 1024 / 1e6 if peaks else 0.0


def _processor() -> str:
    """The name of the processor, or of the board."""
    for path, key in (("/proc/device-tree/model", None), ("/proc/cpuinfo", "model name")):
        try:
            text = Path(path).read_text(errors="replace")
        except OSError:
            continue
        if key is None:
            return text.strip("\0\n ")
        for line in text.splitlines():
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
