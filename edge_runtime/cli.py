"""The command `sonolite`: the root of its subcommands, and its exit codes."""

import os
import sys
from contextlib import suppress
from difflib import get_close_matches
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from devices import BadInput, SonoliteError
from devices.capture.source_uri import without_secrets
from edge_runtime import commands, siblings
from edge_runtime.text import printable, say

MAX_LINE = 2000
"""Letters of an error; the middle of a longer one is left out."""
HOST_IS_MISSING = "Training and conversion need: pip install 'sonolite[train]'"
HELP = (
    "From labelled ultrasound images to live decisions on a point-of-care device. "
    "Research use only, not for diagnosis."
)


def command_line(word: str) -> typer.Typer:
    """The command line with the subcommand `word` of the device, or else with all subcommands.

    The subcommands of the host need the host extra: raises BadInput for an unknown `word` where the
    extra is missing.
    """
    app = typer.Typer(
        name="sonolite",
        help=HELP,
        add_completion=False,
        # Without a callback, an app of one subcommand takes its name for an argument.
        callback=lambda: None,
        pretty_exceptions_enable=False,
    )
    if commands.register(app, word):
        return app
    from importlib.metadata import entry_points  # here: subcommands of the device need none

    host_is_missing = False
    for name in ("train", "convert"):
        siblings.claim(name)  # a file of that name in the user's folder is not meant
    for entry in sorted(entry_points(group="sonolite.commands"), key=lambda entry: entry.value):
        try:
            register = entry.load()
        except ModuleNotFoundError:
            host_is_missing = True
            continue
        register(app)
    if host_is_missing and not word.startswith("-"):
        known = typer.main.get_group(app).commands
        if word not in known:
            near = [f"'{name}'" for name in get_close_matches(word, known)]
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise BadInput(f"no such command: '{word}'.{hint} {HOST_IS_MISSING}")
    return app


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line. Every known failure ends in one line and an exit code."""
    words = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        code = command_line(words[0])(args=words, standalone_mode=False)
        _flush_results(words)
    except SonoliteError as error:
        _fail(str(error), error.exit_code, words)
    except OSError as error:
        _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 2, words)
    except SystemExit as ended:  # of click, which says nothing of a reader that has gone
        if isinstance(ended.__context__, BrokenPipeError):
            _fail("input or output: Broken pipe", 2, words)
        raise
    except (typer.Abort, KeyboardInterrupt):
        _fail("stopped", 130, words)
    except TyperException as error:
        _fail(f"{error.format_message()} See --help.", 2, words)
    sys.exit(code)


def _flush_results(words: list[str]) -> None:
    """Writes the results out, so that a reader that has gone is noticed now.

    Raises BadInput where results were asked for and stdout is closed: Python drops them silently.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    elif "--json" in words:
        raise BadInput("--json: stdout is closed, so that the results are lost")


def _fail(line: str, code: int, words: list[str]) -> NoReturn:
    """Prints one line without control characters and secrets, and ends with `code`."""
    text = printable(" ".join(without_secrets(line, words).split()))
    if len(text) > MAX_LINE:
        text = f"{text[: MAX_LINE // 2]} ... {text[-MAX_LINE // 2 :]}"
    with suppress(OSError):
        if sys.stdout is not None:
            sys.stdout.flush()
    with suppress(OSError):
        say(f"sonolite: {text}")
    _drop_unwritten()
    sys.exit(code)


def _drop_unwritten() -> None:
    """Sends text that nobody reads any more to nowhere: Python's end would complain of it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
