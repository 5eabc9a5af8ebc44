"""The figures of a benchmark, as tables and as a picture."""

from collections.abc import Iterable, Sequence
from statistics import median

import cv2
import numpy as np

from devices import Pixels
from edge_runtime.bench.measure import HISTOGRAM_BINS, Bench, Measurement

TITLES = {
    "decode": "decoding alone",
    "invoke": "inference alone",
    "locate": "locator alone",
    "prepare": "prepare and infer, 30 frames/s",
    "every": "sonolite, every frame",
    "live": "sonolite, live, 30 frames/s",
    "loop": "plain OpenCV loop",
    "mediapipe": "MediaPipe ImageClassifier",
}
BENCH_COLUMNS = {
    "ms a frame": ("ms_a_frame", "{:.2f}"),
    "p50": ("p50", "{:.2f}"),
    "p95": ("p95", "{:.2f}"),
    "p99": ("p99", "{:.2f}"),
    "longest": ("longest", "{:.1f}"),
    "CPU ms": ("cpu_ms_a_frame", "{:.2f}"),
    "MB": ("rss_mb", "{:.0f}"),
    "first result": ("first_result", "{:.2f} s"),
}
"""The columns of the table: a figure of a measurement, and how it is written."""


def median_of_rounds(rounds: Sequence[Measurement], figure: str) -> float:
    """The median of a figure, an attribute of the measurements, over the rounds."""
    return float(median(getattr(measurement, figure) for measurement in rounds))


def bench_rows(bench: Bench) -> list[list[str]]:
    """A head, then a row for each workload: the median of each figure over the rounds, and the most
    frames that a round lost.
    """
    table = [["", *BENCH_COLUMNS, "lost"]]
    for workload, measurements in bench.rounds.items():
        figures = [
            form.format(median_of_rounds(measurements, figure))
            for figure, form in BENCH_COLUMNS.values()
        ]
        lost = max(measurement.dropped for measurement in measurements)
        table.append([TITLES[workload], *figures, str(lost)])
    return table


def ratios(bench: Bench) -> list[tuple[str, float]]:
    """Ratios and totals; a ratio is the median over the rounds of the ratio in each round."""
    rounds = bench.rounds
    figures: list[tuple[str, float]] = []

    def inference(n: int) -> float:
        models = [rounds[each] for each in ("invoke", "locate") if each in rounds]
        return sum(measurements[n].ms_a_frame for measurements in models)

    def bare(n: int) -> float:
        return rounds["decode"][n].ms_a_frame + inference(n)

    def ratio(name: str, each: Iterable[float]) -> None:
        figures.append((name, median(each)))

    for workload in ("every", "loop", "mediapipe"):
        times = [measurement.ms_a_frame for measurement in rounds.get(workload, ())]
        if times:
            name = f"{TITLES[workload]}, over decoding + inference"
            ratio(name, (ours / bare(n) for n, ours in enumerate(times)))
    ratio(
        "sonolite, every frame, over the slower of the two",
        (
            every.ms_a_frame / max(decode.ms_a_frame, inference(n))
            for n, (every, decode) in enumerate(zip(rounds["every"], rounds["decode"], strict=True))
        ),
    )
    if "locate" in rounds:
        classifier = (measurement.ms_a_frame for measurement in rounds["invoke"])
        ratio(
            "both models, over the classifier alone",
            (inference(n) / alone for n, alone in enumerate(classifier)),
        )
    ratio(
        "live: p50 from capture to result, over prepare and infer",
        (
            live.p50 / prepare.p50
            for live, prepare in zip(rounds["live"], rounds["prepare"], strict=True)
        ),
    )
    ratio("live: p99 over p50", (live.p99 / live.p50 for live in rounds["live"]))
    figures.append(("live: labels older than 100 ms", sum(live.late for live in rounds["live"])))
    figures.extend(
        (f"{TITLES[each]}: millions of multiply-adds", rounds[each][0].multiply_adds / 1e6)
        for each in ("invoke", "locate")
        if each in rounds and rounds[each][0].multiply_adds  # else an earlier version measured
    )
    figures.append(
        (
            "every frame: memory grown after the first tenth, MB",
            median_of_rounds(rounds["every"], "growth_mb"),
        )
    )
    figures.append(
        (
            "sonolite run: seconds to the first result",
            median(command.first_result for command in bench.commands),
        )
    )
    figures.append(
        ("sonolite run: most memory, MB", median(command.rss_mb for command in bench.commands))
    )
    return figures


def markdown(bench: Bench) -> str:
    """Both tables in Markdown."""
    head, *body = bench_rows(bench)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    lines += ["", "| ratio or figure | median |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in ratios(bench)]
    return "\n".join(lines) + "\n"


def draw_histograms(bench: Bench) -> Pixels:
    """The histograms of the latencies, one below the other, on one scale; BGR."""
    wide, high, left = 640, 64, 250
    largest = {
        workload: max(measurements, key=lambda measurement: measurement.frames)
        for workload, measurements in bench.rounds.items()
    }
    most = 1.25 * max(measurement.p99 for measurement in largest.values())
    canvas = np.full((high * (len(largest) + 1), left + wide + 50, 3), 255, np.uint8)
    for number, (workload, measurement) in enumerate(largest.items()):
        base = high * (number + 1)
        _write(canvas, TITLES[workload], (8, base - 28))
        _write(canvas, f"p50 {measurement.p50:.2f}  p99 {measurement.p99:.2f} ms", (8, base - 10))
        peak = max(measurement.histogram)
        for place, count in enumerate(measurement.histogram):
            x0 = left + round(wide * place * measurement.longest / HISTOGRAM_BINS / most)
            x1 = left + round(wide * (place + 1) * measurement.longest / HISTOGRAM_BINS / most)
            if count and x0 < left + wide:
                top = base - max(1, round((high - 14) * count / peak))
                corner = (max(x0 + 1, min(x1, left + wide)), base)
                cv2.rectangle(canvas, (x0, top), corner, (170, 120, 40), -1)
        cv2.line(canvas, (left, base), (left + wide, base), (120, 120, 120), 1)
    for tick in range(5):
        x = left + wide * tick // 4
        _write(canvas, f"{most * tick / 4:.1f} ms", (x - 20, high * len(largest) + 22))
    return canvas


def _write(canvas: Pixels, text: str, where: tuple[int, int]) -> None:
    cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
