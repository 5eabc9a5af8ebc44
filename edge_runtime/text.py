"""Text for people: lines on stderr, and other people's words made safe for a terminal."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


def say(line: str) -> None:
    """Prints one line for the person on stderr; stdout is kept for results."""
    if sys.stderr is not None:  # it may have been closed, and print would take stdout for it
        print(line, file=sys.stderr)


def printable(text: str) -> str:
    """The text without characters that command a terminal; lines stay lines."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n")


def table_cell(text: str) -> "Text":
    """A table's cell with somebody else's words, none of which is read as markup."""
    from rich.text import Text  # here: a live session that nobody watches does without rich

    return Text(printable(text))
