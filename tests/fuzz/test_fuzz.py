"""Every reader gives a value or one line, on the same inputs each time; see `make fuzz`."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import Shared
from tests.fuzz import targets  # noqa: F401  registers them
from tests.fuzz.mutation import mutate
from tests.fuzz.target import TARGETS, Target, judge

QUICK = [name for name, each in TARGETS.items() if each.inputs and not each.heavy]


@pytest.fixture(scope="session")
def lines(shared: Shared) -> list[dict[str, object]]:
    """What the short run says of each target; a decoder that crashes ends it."""

    def make(folder: Path) -> None:
        place = folder / "place"
        place.mkdir()
        words = [sys.executable, "-m", "tests.fuzz.short"]
        with open(folder / "lines", "wb") as out, open(folder / "log", "wb") as err:
            done = subprocess.run(words, cwd=place, stdout=out, stderr=err, check=False)
        (folder / "code").write_text(str(done.returncode))

    folder = shared("fuzz", make)
    assert (folder / "code").read_text() == "0", (folder / "log").read_text()[-3000:]
    return [json.loads(line) for line in (folder / "lines").read_text().splitlines()]


@pytest.mark.parametrize("name", QUICK)
def test_a_reader_gives_a_value_or_one_line(name: str, lines: list[dict[str, object]]) -> None:
    (line,) = [line for line in lines if line["target"] == name and "inputs" in line]
    assert line["fault"] is None, line["fault"]
    assert isinstance(line["inputs"], int)
    assert line["inputs"] >= TARGETS[name].inputs


def broken(content: bytes) -> object:
    raise KeyError(content)


def test_what_is_no_refusal_is_a_finding() -> None:
    with pytest.raises(KeyError):
        judge(Target("broken", lambda: [b""], broken, 1, False), b"x")


def breaks_a_thread(content: bytes) -> object:
    thread = threading.Thread(target=broken, args=[content])
    thread.start()
    thread.join()
    return content


def test_what_a_thread_raises_is_a_finding() -> None:
    with pytest.raises(AssertionError, match="a thread raises"):
        judge(Target("broken", lambda: [b""], breaks_a_thread, 1, False), b"x")


def test_the_same_number_makes_the_same_input() -> None:
    seeds = [b'{"a": 12, "b": [1, 2]}', b"other"]
    made = [[mutate(seeds[0], seeds, number) for number in range(200)] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) > 150
