"""The one command, `sonolite`: its root, its exit codes, and the doors for the host's commands."""

import sys
from contextlib import suppress
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from devices import SonoliteError
from edge_runtime import commands, load_sibling
from edge_runtime.text import printable, say

HELP = (
    "From labelled ultrasound images to live decisions on a point-of-care device. "
    "Research use only, not for diagnosis."
)


def command_line(word: str) -> typer.Typer:
    """The command with what `word` asks for: one of the device's, or else all this machine can do.

    The host's commands need the host extra.
    """
    app = typer.Typer(
        name="sonolite",
        help=HELP,
        add_completion=False,
        callback=lambda: None,  # or an app of one command would take its name for an argument
        pretty_exceptions_enable=False,
    )
    if commands.register(app, word):
        return app
    from importlib.metadata import entry_points  # here, as a device's own command needs none

    for name in ("train", "convert"):
        with suppress(ModuleNotFoundError):  # a device has neither
            load_sibling(name)
    for entry in sorted(entry_points(group="sonolite.commands"), key=lambda entry: entry.value):
        try:
            register = entry.load()
        except ModuleNotFoundError:
            continue
        register(app)
    return app


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line; every foreseen failure ends in one line and its exit code."""
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
    """Says one line, whatever its words hold, and ends with `code`."""
    text = printable(" ".join(line.split()))
    say(f"sonolite: {text}")
    sys.exit(code)
