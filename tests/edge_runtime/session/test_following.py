"""How long a marked box stays on its nodule in real sweeps; prints the figures of docs/locate.md.

Each run of neighbouring frames with a nodule is a session, which begins with the marked box.
"""

import csv
import itertools
import statistics
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from devices import Box, EndOfRecording, Pixels
from devices.capture.scripted import Scripted
from devices.capture.video import Video
from edge_runtime.bundle.archive import Bundle, open_bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import CPU
from edge_runtime.session.assemble import assemble
from tests.conftest import SWEEPS, Collected
from tests.edge_runtime.session.test_assemble import overlap

pytestmark = pytest.mark.slow

UNSEEN = ("seq11", "seq12", "seq13", "seq87", "seq88", "seq89")
"""The locator in the package learnt from the others."""
MEETS = 0.3
RATE = 20
"""Frames of the sweeps in a second."""


def runs() -> Iterator[tuple[str, list[Pixels], list[list[Box]], list[Pixels]]]:
    """The frames of each run, the marked boxes of each, and the empty frames that follow."""
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
            frames = list[Pixels]()
            with suppress(EndOfRecording):
                while True:
                    frames.append(video.read(0).pixels.copy())
        numbers = sorted(its)
        for _, group in itertools.groupby(enumerate(numbers), lambda each: each[1] - each[0]):
            run = [number for _, number in group]
            if len(run) > 1:
                after = min((each for each in numbers if each > run[-1]), default=len(frames))
                yield (
                    Path(clip).stem,
                    [frames[number] for number in run],
                    [its[number] for number in run],
                    frames[run[-1] + 1 : after],
                )


def follow(bundle: Bundle, frames: list[Pixels], marked: Box) -> list[list[Box]]:
    """Of each frame the box of the nodule that was marked in the first, where it is shown."""
    stage = bundle.manifest.classifier
    chain = FallbackChain(bundle, stage, [CPU], threads=1, any_picture=True)
    sink = Collected()
    with Scripted(frames) as device:
        session = assemble(device, chain, ",".join(map(str, marked)), follow=True)
        session.run([sink], threading.Event())
    return [
        [nodule.box for nodule in result.nodules if nodule.track == 1] for result in sink.results
    ]


def test_a_marked_box_stays_on_its_nodule(shipped_path: Path) -> None:
    if not SWEEPS.is_dir():
        pytest.skip("the real sweeps are not here")
    bundle = open_bundle(shipped_path)
    follows: dict[bool, list[float]] = defaultdict(list)
    stays: dict[bool, list[float]] = defaultdict(list)
    for name, frames, boxes, _ in runs():
        for marked in boxes[0]:
            truth = marked
            for shown, its in zip(follow(bundle, frames, marked)[1:], boxes[1:], strict=True):
                truth = max(its, key=lambda box: overlap(box, truth))
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


def test_a_marked_box_goes_when_its_nodule_has_left(shipped_path: Path) -> None:
    """A second after it left. Each run that more than a second without a nodule follows counts."""
    if not SWEEPS.is_dir():
        pytest.skip("the real sweeps are not here")
    bundle, shown = open_bundle(shipped_path), list[bool]()
    for _, frames, boxes, later in runs():
        for marked in boxes[0]:
            shown += [
                bool(each) for each in follow(bundle, frames + later, marked)[len(frames) + RATE :]
            ]
    print(f"a second after the nodule left: shown in {sum(shown)} of {len(shown)} frames")
    assert sum(shown) < 0.2 * len(shown)


def share(overlaps: list[float], least: float) -> float:
    return statistics.mean(each >= least for each in overlaps)
