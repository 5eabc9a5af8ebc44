"""Feeds one target for a while: `python -m tests.fuzz.one TARGET SECONDS CORPUS`.

With atheris the inputs are led by the code that they reach; where there is no wheel of atheris for
the machine, hypothesis makes them. The number of inputs is told on stderr. The current folder must
be empty; what a finding needs is left there, in files `finding-*`.
"""

import os
import random
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fuzz.mutation import mutate

atheris: Any = None
with suppress(ImportError):
    atheris = import_module("atheris")

if TYPE_CHECKING:
    from tests.fuzz.target import Target

COVERED = ["devices", "edge_runtime", "train", "convert"]
"""The packages whose code leads the inputs."""
MAX_MEGABYTES = 3000
COUNT = "stat::number_of_executed_units:"
"""Begins the line with the number of inputs; libFuzzer writes it so."""


def main(name: str, seconds: int, corpus: Path) -> None:
    """Judges inputs until the time is over; a finding ends the process."""
    with nullcontext() if atheris is None else atheris.instrument_imports(include=COVERED):
        from tests.fuzz.target import TARGETS
        from tests.fuzz.targets import annotations  # noqa: F401  with it come all

    each = TARGETS[name]
    seeds = each.seeds()
    sys.stdout.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if atheris is None:
        by_hypothesis(each, seeds, seconds)
    else:
        by_coverage(each, seeds, seconds, corpus)


def by_coverage(each: "Target", seeds: Sequence[bytes], seconds: int, corpus: Path) -> None:
    """Judges inputs that libFuzzer makes, and some that `mutate` makes."""
    from tests.fuzz.target import WAIT_SECONDS, judge

    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(seed)

    def change(content: bytes, most: int, number: int) -> bytes:
        if random.Random(number).random() < 0.3:
            return mutate(content, seeds, number)[:most]
        changed: bytes = atheris.Mutate(content, most)
        return changed

    def judged(content: bytes) -> None:
        try:
            judge(each, content)
        except BaseException:  # atheris tells it on stdout, which leads nowhere
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
            raise

    words = [
        *(sys.argv[0], str(corpus), f"-max_total_time={seconds}"),
        *(f"-max_len={max(8192, 2 * max(map(len, seeds)))}", "-len_control=0"),
        *(f"-timeout={WAIT_SECONDS:.0f}", f"-rss_limit_mb={MAX_MEGABYTES}"),
        *("-print_final_stats=1", "-verbosity=0", "-artifact_prefix=finding-"),
    ]
    atheris.Setup(words, judged, custom_mutator=change)
    atheris.Fuzz()


def by_hypothesis(each: "Target", seeds: Sequence[bytes], seconds: int) -> None:
    """Judges inputs that `mutate` makes."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

    from tests.fuzz.target import begin_input, judge, limited

    end, count = time.monotonic() + seconds, 0

    @settings(
        max_examples=200,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=[*HealthCheck],
    )
    @given(st.integers(0, len(seeds) - 1), st.integers(0, 2**64 - 1))
    def judged(seed: int, number: int) -> None:
        nonlocal count
        content = mutate(seeds[seed], seeds, number)
        Path("finding-input").write_bytes(content)
        begin_input()
        judge(each, content)
        count += 1

    with limited():
        while time.monotonic() < end:
            judged()
    Path("finding-input").unlink(missing_ok=True)
    print(f"{COUNT} {count}", file=sys.stderr, flush=True)
    os._exit(0)  # the servers of some targets are still there


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
