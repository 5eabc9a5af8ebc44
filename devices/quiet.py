"""Silences the start-up notes of native libraries, which would hide the line for the user."""

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TextIO

_lock = threading.Lock()
_users = 0
_redirection = ExitStack()
_notes: IO[bytes] | None = None
_terminal: TextIO | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Redirects file descriptor 2 to a temporary file; the stderr of Python stays as it is.

    TensorFlow and its interpreters write to the descriptor before their log levels apply, so that
    no setting silences them. Where the block crashes, their notes are printed after all. The
    function is a decorator, too. Of several threads, the last to leave restores the descriptor; a
    thread that hangs in a library only suppresses more notes.
    """
    global _users
    with _lock:
        if not _users:
            _redirect()
        _users += 1
    try:
        yield
    except Exception as error:
        # What ends a command on purpose, such as Ctrl-C that was heeded, has an exit code.
        if not hasattr(error, "exit_code") and _notes is not None and _terminal is not None:
            _notes.seek(0)
            os.write(_terminal.fileno(), _notes.read())
        raise
    finally:
        with _lock:
            _users -= 1
            if not _users:
                _redirection.close()


def _redirect() -> None:
    """Redirects descriptor 2 to a file until `_redirection` is closed."""
    global _notes, _terminal
    python_stderr = sys.stderr
    _notes = _redirection.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  `_redirection` closes it
    _terminal = _redirection.enter_context(os.fdopen(os.dup(2), "w", buffering=1))
    _redirection.callback(os.dup2, _terminal.fileno(), 2)
    os.dup2(_notes.fileno(), 2)
    if python_stderr is sys.__stderr__:
        sys.stderr = _terminal
        _redirection.callback(setattr, sys, "stderr", python_stderr)
