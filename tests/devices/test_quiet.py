"""Native notes are kept back, what Python says is not, and a crash shows everything."""

import subprocess
import sys

PROGRAM = """
import os, sys
from devices import BadInput
from devices.quiet import quiet
try:
    with quiet():
        os.write(2, b"native note\\n")
        print("python line", file=sys.stderr)
        {last}
except (BadInput, ZeroDivisionError):
    pass
os.write(2, b"after\\n")
"""


def stderr_of(last: str) -> str:
    program = PROGRAM.format(last=last)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stderr.decode()


def test_native_notes_are_kept_back() -> None:
    assert stderr_of("pass") == "python line\nafter\n"


def test_a_foreseen_error_keeps_them_back_too() -> None:
    assert stderr_of("raise BadInput('x')") == "python line\nafter\n"


def test_a_crash_shows_them() -> None:
    assert stderr_of("1 / 0") == "python line\nnative note\nafter\n"
