"""How long a marked box stays on its nodule in real sweeps; prints the figures of docs/locate.md.

Each run of neighbouring frames with a nodule is a session, which begins with the marked box.
"""

import csv
import itertools
import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices import Box, Pixels
from devices.capture.scripted import Scripted
from devices.capture.video import Video
from edge_runtime.bundle.archive import open_bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.session.assemble import assemble
from tests.conftest import SWEEPS, Collected
from tests.edge_runtime.session.test_assemble import overlap

pytestmark = pytest.mark.slow

UNSEEN = ("seq11", "seq12", "seq13", "seq87", "seq88", "seq89")
"""The locator in the package learnt from the others."""
MEETS = 0.3


def runs() -> Iterator[tuple[str, list[Pixels], list[list[Box]]]]:
    """The frames of each run, and the marked boxes of each frame."""
    boxes: dict[str, dict[int, list[Box]]] = defaultdict(lambda: defaultdict(list))
    with open(SWEEPS / "boxes.csv", newline="") as table:
        for row in csv.DictReader(table):
            left, top, right, bottom = (
                round(float(row[name])) for name in ("xmin", "ymin", "xmax", "ymax")
            )
            box = Box(left, top, right - left, bottom - top)
            boxes[row["clip"]][int(row["frame"])].append(box)
    for clip, its in sorted(boxes.items()):
        with Video(SWEEPS / clip) as video:
            frames = [video.read(0).pixels.copy() for _ in range(max(its) + 1)]
        numbers = sorted(its)
        for _, group in itertools.groupby(enumerate(numbers), lambda each: each[1] - each[0]):
            run = [number for _, number in group]
            if len(run) > 1:
                name = Path(clip).stem
                yield name, [frames[number] for number in run], [its[number] for number in run]


def test_a_marked_box_stays_on_its_nodule(shipped_path: Path) -> None:
    if not SWEEPS.is_dir():
        pytest.skip("the real sweeps are not here")
    bundle = open_bundle(shipped_path)
    follows: dict[bool, list[float]] = defaultdict(list)
    stays: dict[bool, list[float]] = defaultdict(list)
    for name, frames, boxes in runs():
        for marked in boxes[0]:
            stage = bundle.manifest.classifier
            chain = FallbackChain(bundle, stage, [CPU], threads=1, any_picture=True)
            sink, truth = Collected(), marked
            with Scripted(frames) as device:
                session = assemble(device, chain, ",".join(map(str, marked)), follow=True)
                session.run([sink], threading.Event())
            for result, its in zip(sink.results[1:], boxes[1:], strict=True):
                truth = max(its, key=lambda box: overlap(box, truth))
                shown = [nodule.box for nodule in result.nodules if nodule.track == 1]
                follows[name in UNSEEN].append(max((overlap(b, truth) for b in shown), default=0))
                stays[name in UNSEEN].append(overlap(marked, truth))
    for unseen in (True, False):
        shares = [
            f"{share(each[unseen], least):.2f}"
            for least in (MEETS, 0.5)
            for each in (follows, stays)
        ]
        print(
            f"{'unseen' if unseen else 'learnt'} sweeps, {len(follows[unseen])} frames: IoU .3 "
            f"followed {shares[0]}, where it was {shares[1]}; IoU .5 {shares[2]}, {shares[3]}"
        )
        assert share(follows[unseen], MEETS) > share(stays[unseen], MEETS) + 0.1


def share(overlaps: list[float], least: float) -> float:
    return statistics.mean(each >= least for each in overlaps)
