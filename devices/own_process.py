"""Processes that run modules of the project."""

import resource
import sys
from contextlib import suppress
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parents[1])


def module_command(module: str) -> list[str]:
    """The words that run a module of the project with the interpreter of this process.

    The new process finds modules where this one does, and those of the project first: a person's
    own `devices.py` is another one. Neither `-m` nor PYTHONPATH can promise that: the launcher of
    the Debian package sets the path itself.
    """
    start = f"import runpy, sys; sys.path[:] = {[_ROOT, *sys.path]!r}; "
    start += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-I", "-c", start]


def limit_this_process(memory: int) -> None:
    """Limits the memory to so many bytes; leaves no core, and goes first where memory is short."""
    with suppress(OSError, ValueError):  # a sandbox may forbid it
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
