"""What a device can do with nothing but the base install, one file a command."""

from importlib import import_module

import typer

COMMANDS = ("demo", "run", "sector", "inspect", "bench", "doctor", "deploy", "keys", "device")
"""In the order of the help."""
HIDDEN = ("serve", "release")
"""What no person calls."""
_FILES = {"demo": "run", "release": "serve"}
"""Of those that have no file of their own name."""


def register(app: typer.Typer, word: str) -> bool:
    """Adds the command `word` alone to the root app, and returns True; else all, and False.

    What the other commands need would cost a live session memory, and time until it begins.
    """
    known = (*COMMANDS, *HIDDEN)
    for name in [word] if word in known else known:
        command = getattr(import_module(f"{__name__}.{_FILES.get(name, name)}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, hidden=name in HIDDEN)
        else:
            app.command(hidden=name in HIDDEN)(command)
    return word in known
