"""The subcommands that need only the base install: one file for each."""

from importlib import import_module

import typer

from edge_runtime.commands.options import BareOptionCommand

COMMANDS = (
    "demo",
    "run",
    "sector",
    "exam",
    "worklist",
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
_WITH_BARE_OPTIONS = ("run", "deploy")
"""Subcommands with options that may stand without their values."""


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
            kind = BareOptionCommand if name in _WITH_BARE_OPTIONS else None
            app.command(cls=kind, hidden=name in HIDDEN)(command)
    return word in known
