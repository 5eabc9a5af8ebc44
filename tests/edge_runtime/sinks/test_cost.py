"""What all sinks together cost a session: the time of every frame with them over that without."""

import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from edge_runtime.bundle.archive import Bundle
from edge_runtime.models.backends import FallbackChain
from edge_runtime.session.assemble import assemble, open_source
from edge_runtime.sinks.open import SinkContext, open_sink
from tests.conftest import QUIET, free_port

ROUNDS = 7
LIMIT = 1.05 if QUIET else 3.0
"""On a machine that has other work only a gross loss can be told."""


def seconds_a_frame(bundle: Bundle, video: Path, uris: Sequence[str], folder: Path) -> float:
    """Of a recording, every frame of which is classified."""
    chain = FallbackChain(bundle, bundle.manifest.classifier)
    with ExitStack() as stack:
        device = stack.enter_context(open_source(str(video)))
        session = assemble(device, chain, "167,190,108,100")
        context = SinkContext(threading.Event(), device.live, device.fps, outboxes=folder)
        sinks = [stack.enter_context(open_sink(uri, context)) for uri in uris]
        summary, _ = session.run(sinks, threading.Event())
    assert not [tally for tally in context.tallies if tally.delivery().given_up]
    return summary.seconds / summary.read


@contextmanager
def receivers(folder: Path) -> Iterator[tuple[int, str]]:
    """The port of a server and the URI of a broker, in a process of their own."""
    program = ["-m", "tests.edge_runtime.sinks.receiver", str(folder), str(free_port())]
    words = [sys.executable, *program]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port, broker = child.stdout.readline().split()
        yield int(port), broker
        child.communicate()
    assert child.returncode == 0


@pytest.mark.slow
def test_all_sinks_together_cost_little(
    demo_bundle: Bundle, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    video = make_video("sweep.avi", frames=400, width=640, height=480)
    ratios, frames = [], []
    with receivers(tmp_path) as (port, broker):
        uris = [
            f"jsonl:{tmp_path}/a.jsonl?max_mb=10",
            f"csv:{tmp_path}/a.csv?max_mb=10",
            f"drift:{tmp_path}/drift",
            f"prometheus:127.0.0.1:{free_port()}",
            f"webhook:http://127.0.0.1:{port}/hook",
            broker.replace("send=results", "send=changes"),
        ]
        for _ in range(ROUNDS):
            without = seconds_a_frame(demo_bundle, video, [], tmp_path / "outbox")
            beside = seconds_a_frame(demo_bundle, video, uris, tmp_path / "outbox")
            ratios.append(beside / without)
            frames.append(1000 * without)
    ratio = statistics.median(ratios)
    print(f"{statistics.median(frames):.2f} ms a frame; with all sinks {ratio:.3f} times as long")
    assert ratio <= LIMIT, ratios
