"""A short run of every target with the same inputs each time: `python -m tests.fuzz.short`.

It is a process of its own, because a native decoder may crash. Each line on stdout is one target as
JSON. The input that is read is in the file `input` of the current folder, which must be empty.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path

from tests.fuzz import targets  # noqa: F401  registers them
from tests.fuzz.mutation import mutate
from tests.fuzz.target import TARGETS, Target, begin_input, judge, limited


def run(each: Target) -> int:
    """Judges the seeds and changed ones; returns how many. Raises what one raises."""
    folder = Path(each.name)
    folder.mkdir(exist_ok=True)
    os.chdir(folder)
    count = 0

    def judged(content: bytes) -> None:
        nonlocal count
        count += 1
        Path("../input").write_bytes(content)
        begin_input()
        judge(each, content)

    try:
        seeds = each.seeds()
        begin_input()
        value = each.read(seeds[0])
        assert value is not None, "nothing comes of a sound input"
        assert not isinstance(value, int) or value > 0, "nothing comes of a sound input"
        for seed in seeds:
            judged(seed)

        for number in range(each.inputs):
            judged(mutate(seeds[number % len(seeds)], seeds, number))
    finally:
        os.chdir("..")
    return count


def main(names: list[str]) -> None:
    """Runs the targets; those that are not heavy without `names`."""
    with limited():
        for name, each in TARGETS.items():
            if name not in names and (names or each.heavy or not each.inputs):
                continue
            print(json.dumps({"target": name}), flush=True)
            began, fault = time.monotonic(), None
            try:
                count = run(each)
            except BaseException:
                count, fault = 0, traceback.format_exc()
            seconds = round(time.monotonic() - began, 2)
            line = {"target": name, "inputs": count, "seconds": seconds, "fault": fault}
            print(json.dumps(line), flush=True)
    sys.stdout.flush()
    os._exit(0)  # the servers of some targets are still there


if __name__ == "__main__":
    main(sys.argv[1:])
