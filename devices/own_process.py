"""Processes that run modules of the project."""

import sys
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
