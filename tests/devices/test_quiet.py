"""Native notes are kept back, what Python says is not, and a crash shows everything."""

import os
import subprocess
import sys
import threading

import pytest

from devices.quiet import quiet

PROGRAM = """
import os, sys
from devices import BadInput
from devices.quiet import quiet
try:
    with quiet():
        os.write(2, b"native note\\n")
        print("python line", file=sys.stderr)
        {last}
except (BadInput, RuntimeError, ZeroDivisionError):
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


def test_an_end_with_an_exit_code_keeps_them_back() -> None:
    """As Ctrl-C ends a training, once what was learnt is written."""
    ending = "import typer; raise typer.Exit(130)"
    assert "native note" not in stderr_of(ending)


def test_a_crash_shows_them() -> None:
    assert stderr_of("1 / 0") == "python line\nnative note\nafter\n"


def test_a_thread_that_never_leaves_takes_no_line_from_the_others(
    capfd: pytest.CaptureFixture[str],
) -> None:
    inside, leave = threading.Event(), threading.Event()

    def stuck() -> None:
        with quiet():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=stuck)
    thread.start()
    assert inside.wait(60)
    with quiet():
        os.write(2, b"a library's note\n")
    leave.set()
    thread.join(60)
    os.write(2, b"a line of ours\n")
    assert capfd.readouterr().err == "a line of ours\n"
