"""The subcommands that need only the base install: one file for each."""

from importlib import import_module

import typer

COMMANDS = (
    "demo",
    "run",
    "sector",
    "exam",
    "inspect",
    "bench",
    "doctor",
    "deploy",
    "keys",
    "device",
)
"""The subcommands in the order of the help."""
HIDDEN = ("serve", "release")
"""Subcommands for programs; the help does not list them."""
_FILES = {"demo": "run", "release": "serve"}
"""The files of subcommands that share a file."""
_CLASSES = {"run": "RunCommand"}
"""The classes of subcommands whose words are read in a way of their own."""


def register(app: typer.Typer, word: str) -> bool:
    """Adds only the subcommand `word` to the root app, and returns True; else adds all: False.

    The imports of other subcommands would cost a session memory, and time before it begins.
    """
    known = (*COMMANDS, *HIDDEN)
    for name in [word] if word in known else known:
        module = import_module(f"{__name__}.{_FILES.get(name, name)}")
        command = getattr(module, name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, hidden=name in HIDDEN)
        else:
            own = getattr(module, _CLASSES[name]) if name in _CLASSES else None
            app.command(cls=own, hidden=name in HIDDEN)(command)
    return word in known
