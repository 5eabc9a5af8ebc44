"""Text for people: lines on stderr, and foreign text made safe for a terminal."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def say(line: str) -> None:
    """Prints one line for a person to stderr; stdout is for results."""
    if sys.stderr is not None:  # a closed stderr is None, and print would take stdout
        print(line, file=sys.stderr)


def printable(text: str) -> str:
    """The text without control characters, except the ends of lines."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")


def program_version() -> str:
    """The version of this program; "unknown" where it was never installed."""
    from importlib.metadata import PackageNotFoundError, version  # here: few sessions tell it

    try:
        return version("sonolite")
    except PackageNotFoundError:
        return "unknown"


def table_cell(text: str) -> "Text":
    """A cell of a table with foreign text, which is not read as markup."""
    from rich.text import Text  # here: a session without a terminal does not load rich

    return Text(printable(text))
