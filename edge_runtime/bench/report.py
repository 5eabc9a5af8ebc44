"""What a bench found, as tables and as a picture."""

from collections.abc import Callable, Iterable, Sequence
from statistics import median

import cv2
import numpy as np

from devices import Pixels
from edge_runtime.bench.measure import BINS, Bench, Measured

TITLES = {
    "decode": "decoding alone",
    "invoke": "inference alone",
    "prepare": "prepare and infer, 30 frames/s",
    "every": "sonolite, every frame",
    "live": "sonolite, live, 30 frames/s",
    "loop": "plain OpenCV loop",
    "mediapipe": "MediaPipe ImageClassifier",
}


def middle(rounds: Sequence[Measured], of: Callable[[Measured], float]) -> float:
    """The median over the rounds."""
    return median(of(its) for its in rounds)


def rows(bench: Bench) -> list[list[str]]:
    """A head, then a row for each contender; each figure the median of its rounds."""
    head = [
        "",
        "ms a frame",
        "p50",
        "p95",
        "p99",
        "longest",
        "CPU ms",
        "MB",
        "first result",
        "lost",
    ]
    found = [head]
    for who, its in bench.rounds.items():
        found.append(
            [
                TITLES[who],
                f"{middle(its, lambda one: one.ms_a_frame):.2f}",
                *(f"{middle(its, of):.2f}" for of in (_p50, _p95, _p99)),
                f"{middle(its, lambda one: one.longest):.1f}",
                f"{middle(its, lambda one: one.cpu_ms_a_frame):.2f}",
                f"{middle(its, lambda one: one.rss_mb):.0f}",
                f"{middle(its, lambda one: one.first_result):.2f} s",
                f"{max(one.dropped for one in its)}",
            ]
        )
    return found


def ratios(bench: Bench) -> list[tuple[str, float]]:
    """What the figures come to: each the median over the rounds of a ratio within one round."""
    rounds = bench.rounds
    found: list[tuple[str, float]] = []

    def bare(n: int) -> float:
        return rounds["decode"][n].ms_a_frame + rounds["invoke"][n].ms_a_frame

    def ratio(name: str, each: Iterable[float]) -> None:
        found.append((name, median(each)))

    for who in ("every", "loop", "mediapipe"):
        its = [one.ms_a_frame for one in rounds.get(who, ())]
        if its:
            name = f"{TITLES[who]}, over decoding + inference"
            ratio(name, (ours / bare(n) for n, ours in enumerate(its)))
    ratio(
        "sonolite, every frame, over the slower of the two",
        (
            every.ms_a_frame / max(decode.ms_a_frame, invoke.ms_a_frame)
            for every, decode, invoke in zip(
                rounds["every"], rounds["decode"], rounds["invoke"], strict=True
            )
        ),
    )
    ratio(
        "live: p50 from capture to result, over prepare and infer",
        (its.p50 / alone.p50 for its, alone in zip(rounds["live"], rounds["prepare"], strict=True)),
    )
    ratio("live: p99 over p50", (its.p99 / its.p50 for its in rounds["live"]))
    found.append(("live: labels older than 100 ms", sum(its.late for its in rounds["live"])))
    found.append(
        ("every frame: memory grown after the first tenth, MB", middle(rounds["every"], _growth))
    )
    found.append(
        (
            "sonolite run: seconds to the first result",
            median(its.first_result for its in bench.commands),
        )
    )
    found.append(("sonolite run: most memory, MB", median(its.rss_mb for its in bench.commands)))
    return found


def markdown(bench: Bench) -> str:
    """Both tables for a page."""
    head, *body = rows(bench)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in body]
    lines += ["", "| ratio or figure | median |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in ratios(bench)]
    return "\n".join(lines) + "\n"


def picture(bench: Bench) -> Pixels:
    """Histograms of all contenders' latencies below each other, on one scale; BGR."""
    wide, high, left = 640, 64, 250
    shown = {who: max(its, key=lambda one: one.frames) for who, its in bench.rounds.items()}
    most = 1.25 * max(its.p99 for its in shown.values())
    canvas = np.full((high * (len(shown) + 1), left + wide + 50, 3), 255, np.uint8)
    for number, (who, its) in enumerate(shown.items()):
        base = high * (number + 1)
        _write(canvas, TITLES[who], (8, base - 28))
        _write(canvas, f"p50 {its.p50:.2f}  p99 {its.p99:.2f} ms", (8, base - 10))
        peak = max(its.histogram)
        for place, count in enumerate(its.histogram):
            x0 = left + round(wide * place * its.longest / BINS / most)
            x1 = left + round(wide * (place + 1) * its.longest / BINS / most)
            if count and x0 < left + wide:
                top = base - max(1, round((high - 14) * count / peak))
                corner = (max(x0 + 1, min(x1, left + wide)), base)
                cv2.rectangle(canvas, (x0, top), corner, (170, 120, 40), -1)
        cv2.line(canvas, (left, base), (left + wide, base), (120, 120, 120), 1)
    for tick in range(5):
        x = left + wide * tick // 4
        _write(canvas, f"{most * tick / 4:.1f} ms", (x - 20, high * len(shown) + 22))
    return canvas


def _write(canvas: Pixels, text: str, where: tuple[int, int]) -> None:
    cv2.putText(canvas, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (40, 40, 40), 1, cv2.LINE_AA)


def _p50(its: Measured) -> float:
    return its.p50


def _p95(its: Measured) -> float:
    return its.p95


def _p99(its: Measured) -> float:
    return its.p99


def _growth(its: Measured) -> float:
    return its.growth_mb
