"""Processes that run modules of the project."""

import sys


def module_command(module: str) -> list[str]:
    """The words that run a module with the interpreter of this process.

    The new process finds modules where this one does. Neither `-m` nor PYTHONPATH can promise that:
    the launcher of the Debian package sets the path itself.
    """
    start = f"import runpy, sys; sys.path[:] = {sys.path!r}; "
    start += f"runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-I", "-c", start]
