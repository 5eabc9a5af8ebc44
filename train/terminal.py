"""What the host's commands show: one progress bar, one kind of table."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from edge_runtime.results.result import NOTICE

T = TypeVar("T")


def progress_bar() -> Progress:
    """The one progress bar of the host commands, with the time that remains."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def tracked(bar: Progress, name: str) -> Callable[[Iterable[T]], Iterable[T]]:
    """Shows an iteration on a progress bar that is already open."""
    return lambda items: bar.track(items, description=name)


def figures_table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> Table:
    """Figures by name, a column for each thing that was measured; fits a narrow terminal."""
    table = Table("", box=SIMPLE_HEAD, caption=NOTICE)
    for column in columns:
        table.add_column(column, justify="right")
    for name, cells in rows.items():
        table.add_row(Text(name.replace("_", " ")), *map(Text, cells))
    return table
