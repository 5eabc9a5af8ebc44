"""Signals end a session, whatever it does when they come."""

import subprocess
import sys

SECOND_SIGNAL = """
import signal, sys
from edge_runtime.commands.options import stopped_by_signals

def interrupt(frame, event, argument):
    if frame.f_code.co_name == "notify_all":
        sys.settrace(None)
        signal.raise_signal(signal.SIGHUP)
    return interrupt

with stopped_by_signals() as stop:
    sys.settrace(interrupt)
    signal.raise_signal(signal.SIGHUP)
    print(sys.gettrace(), stop.is_set())
"""


def test_a_second_signal_while_the_first_is_heeded_does_not_block_the_session() -> None:
    words = [sys.executable, "-c", SECOND_SIGNAL]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "None True\n", done
