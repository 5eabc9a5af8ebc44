"""Feeds the targets one after the other: `python -m tests.fuzz --minutes 5 manifest video`.

Each has a process of its own, in a new folder. Inputs that reached new code are kept in `.fuzz/`
and are where the next run begins; what a finding needs is kept in `.fuzz/findings`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import targets  # noqa: F401  registers them
from tests.fuzz.one import COUNT
from tests.fuzz.target import TARGETS

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".fuzz"
START_SECONDS = 600
"""Seconds that a target may take beside its time: to load TensorFlow and to train a run for it."""


def feed(name: str, seconds: int) -> tuple[int, str]:
    """Feeds one target; returns the number of inputs, and the report of a finding, else empty."""
    corpus = KEPT / name
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as folder:
        words = [sys.executable, "-m", "tests.fuzz.one", name, str(seconds), str(corpus)]
        log = Path(folder, "log")
        with open(log, "wb") as out:
            place = Path(folder, "place")
            place.mkdir()
            try:
                code = subprocess.run(
                    words,
                    cwd=place,
                    env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": folder},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    check=False,
                    timeout=seconds + START_SECONDS,
                ).returncode
            except subprocess.TimeoutExpired:
                code = -1
        text = log.read_bytes().decode(errors="replace")
        counts = re.findall(rf"{COUNT}\s*(\d+)", text)
        count = int(counts[-1]) if counts else 0
        if code == 0 and counts:
            return count, ""
        findings = KEPT / "findings"
        findings.mkdir(parents=True, exist_ok=True)
        for path in place.glob("finding-*"):
            shutil.copy(path, findings / f"{name}-{path.name}")
        (findings / f"{name}.log").write_text(text)
        return count, "\n".join(text.splitlines()[-40:])


def main() -> None:
    """Feeds the targets, and prints a line for each; ends with 1 where there was a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--minutes", type=float, default=1.0, help="minutes of each target")
    parser.add_argument("targets", nargs="*", help=f"any of {', '.join(TARGETS)}; else all")
    words = parser.parse_args()
    if unknown := set(words.targets) - set(TARGETS):
        parser.error(f"no target {min(unknown)}; there are {', '.join(TARGETS)}")
    found = total = 0
    for name in words.targets or TARGETS:
        began = time.monotonic()
        count, report = feed(name, max(1, round(60 * words.minutes)))
        total += count
        end = "a finding, see .fuzz/findings" if report else "no finding"
        print(f"{name:20} {count:>10,} inputs {time.monotonic() - began:6.0f} s  {end}", flush=True)
        if report:
            found += 1
            print(report, flush=True)
    print(f"{total:,} inputs, {found} targets with a finding")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
