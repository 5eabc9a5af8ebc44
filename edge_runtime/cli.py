"""The command `sonolite`: the root of its subcommands, and its exit codes."""

import sys
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from devices import SonoliteError
from edge_runtime import commands, siblings
from edge_runtime.text import printable, say

HELP = (
    "From labelled ultrasound images to live decisions on a point-of-care device. "
    "Research use only, not for diagnosis."
)


def command_line(word: str) -> typer.Typer:
    """The command line with the subcommand `word` of the device, or else with all subcommands.

    The subcommands of the host need the host extra.
    """
    app = typer.Typer(
        name="sonolite",
        help=HELP,
        add_completion=False,
        callback=lambda: (
            None
        ),  # without it, an app of one subcommand takes the name for an argument
        pretty_exceptions_enable=False,
    )
    if commands.register(app, word):
        return app
    from importlib.metadata import (
        entry_points,
    )  # here, because the subcommands of the device need none

    for name in ("train", "convert"):
        siblings.claim(name)  # a file of that name in the user's folder is not meant
    for entry in sorted(entry_points(group="sonolite.commands"), key=lambda entry: entry.value):
        try:
            register = entry.load()
        except ModuleNotFoundError:
            continue
        register(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Every known failure ends in one line and an exit code."""
    words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = command_line(words[0])(args=words, standalone_mode=False)
    except SonoliteError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 2)
    except (typer.Abort, KeyboardInterrupt):
        _fail("stopped", 130)
    except TyperException as error:
        _fail(f"{error.format_message()} See --help.", 2)
    sys.exit(code)


def _fail(line: str, code: int) -> NoReturn:
    """Prints one line without control characters, and ends with `code`."""
    text = printable(" ".join(line.split()))
    say(f"sonolite: {text}")
    sys.exit(code)
