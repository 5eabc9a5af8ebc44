"""The one command, `sonolite`: its root, its exit codes, and the doors for the host's commands."""

import sys
from importlib.metadata import entry_points

import typer

from devices import SonoliteError
from edge_runtime import commands

app = typer.Typer(
    name="sonolite",
    help=(
        "From labelled ultrasound images to live decisions on a point-of-care device. "
        "Research use only, not for diagnosis."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command line; every foreseen failure ends in one line and its exit code."""
    commands.register(app)
    for entry in sorted(entry_points(group="sonolite.commands"), key=lambda entry: entry.name):
        try:
            register = entry.load()
        except ModuleNotFoundError:
            continue  # a device without the host extra shows only what it can do
        register(app)
    try:
        app()
    except SonoliteError as error:
        print(f"sonolite: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
