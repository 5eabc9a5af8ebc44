"""Keeps native libraries' start-up notes from burying the one line that a user needs."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from devices.errors import SonoliteError


@contextmanager
def quiet() -> Iterator[None]:
    """File descriptor 2 leads to a temporary file, Python's own stderr stays as it was.

    TensorFlow and its interpreters write to the descriptor before any of their log levels apply,
    so that no setting silences them. Where the block crashes, what they wrote is shown after all.
    Serves as a decorator too.
    """
    python_stderr = sys.stderr
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as notes, os.fdopen(terminal, "w", buffering=1) as stderr:
        os.dup2(notes.fileno(), 2)
        if python_stderr is sys.__stderr__:
            sys.stderr = stderr
        try:
            yield
        except (SonoliteError, KeyboardInterrupt):
            raise
        except Exception:
            notes.seek(0)
            os.write(terminal, notes.read())
            raise
        finally:
            os.dup2(terminal, 2)
            sys.stderr = python_stderr
