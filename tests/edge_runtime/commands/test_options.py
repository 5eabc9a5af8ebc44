"""Signals end a session, whatever it does when they come."""

import subprocess
import sys

SIGNALS = """
import signal, sys
from edge_runtime.commands.options import stopped_by_signals

sent = []

def interrupt(frame, event, argument):
    if frame.f_code.co_name == "wait":
        sent.append(event)
        signal.raise_signal(signal.SIGHUP)
    return interrupt

with stopped_by_signals() as stop:
    sys.settrace(interrupt)
    print(stop.wait(50), len(sent) > 1)
"""


def test_signals_that_come_while_the_session_looks_at_its_event_do_not_block_it() -> None:
    words = [sys.executable, "-c", SIGNALS]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "True True\n", done
