"""The one command, `sonolite`: its root, its exit codes, and the doors for the host's commands."""

import sys
from importlib.metadata import entry_points

import typer

from devices import SonoliteError
from edge_runtime import commands

HELP = (
    "From labelled ultrasound images to live decisions on a point-of-care device. "
    "Research use only, not for diagnosis."
)


def command_line() -> typer.Typer:
    """The command with all that this machine can do: the host's commands need the host extra."""
    app = typer.Typer(
        name="sonolite",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    commands.register(app)
    for entry in sorted(entry_points(group="sonolite.commands"), key=lambda entry: entry.value):
        try:
            register = entry.load()
        except ModuleNotFoundError:
            continue
        register(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; every foreseen failure ends in one line and its exit code."""
    try:
        command_line()(args=arguments)
    except SonoliteError as error:
        print(f"sonolite: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
