"""One session on a recording; prints milliseconds a frame, of time and of processors, and memory.

python -m tests.edge_runtime.session.decoder_cost RECORDING inside|apart
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

from devices.capture import device_opener
from devices.capture.decoder_process import DecoderProcess
from edge_runtime.bundle.shipped import open_shipped
from edge_runtime.models.backends import FallbackChain
from edge_runtime.session.assemble import assemble


def processor_seconds(process: int) -> float:
    """Of all threads, those that have ended, too (proc(5), stat)."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(process: int) -> float:
    """The memory of a process; what it shares with others is divided among them."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def main() -> None:
    recording, where = sys.argv[1:]
    began = time.monotonic()
    with device_opener(recording, apart=where == "apart")() as device, open_shipped() as bundle:
        opened = time.monotonic() - began
        decoder = device._process.pid if isinstance(device, DecoderProcess) else None
        processes = [os.getpid(), *([decoder] if decoder else [])]
        chain = FallbackChain(bundle, bundle.manifest.classifier, any_picture=True)
        session = assemble(device, chain, "234,185,216,150")
        before = sum(map(processor_seconds, processes))
        summary, _ = session.run([], threading.Event())
        used = sum(map(processor_seconds, processes)) - before
        taken = [megabytes(each) for each in processes]
    milliseconds = [1000 * seconds / summary.read for seconds in (summary.seconds, used)]
    print(json.dumps([*milliseconds, opened, *taken]))


if __name__ == "__main__":
    main()
