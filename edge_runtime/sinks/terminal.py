"""The results for a person: a live table on a terminal, else a line at every change.

A session without this sink does not load this module, which saves the memory of its library.
"""

from rich.console import Console
from rich.live import Live
from rich.table import Table

from devices import Pixels
from edge_runtime.results.result import (
    NOTICE,
    Result,
    describe_nodule,
    describe_nodules,
    describe_score,
)
from edge_runtime.results.states import State
from edge_runtime.text import printable, table_cell


class Terminal:
    """A live table where there is a terminal, else a line at every change."""

    wants_pixels, latest_only = False, True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,  # or lines that are printed while a backend opens would be lost
        )
        self._drawn = float("-inf")
        self._last: tuple[object, ...] = ()

    def __enter__(self) -> "Terminal":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Shows one result; the table changes ten times a second at most."""
        now = _signs(result)
        if not self._console.is_terminal:
            if now != self._last:
                line = _line(result)
                self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        elif now != self._last or result.captured_at - self._drawn >= 0.1:
            self._live.update(_table(result), refresh=True)
            self._drawn = result.captured_at
        self._last = now


def _signs(result: Result) -> tuple[object, ...]:
    """What makes a change: state, labels and file; a still stands alone, and always is one."""
    labels = {nodule.track: nodule.label for nodule in result.nodules if nodule.label is not None}
    still = result.frame if result.timestamp is None else None
    return result.state, labels, result.file, still


def _line(result: Result) -> str:
    where = "no frame" if result.frame is None else f"frame {result.frame}"
    if result.file is not None:
        where += f" of {printable(result.file)}"
    return f"{where}: {result.state}, {describe_nodules(result)}"


def _table(result: Result) -> Table:
    table = Table(show_header=False, title=NOTICE)
    latency = result.latency_ms
    rows = {
        "state": str(result.state),
        **_decisions(result),
        "frame": "-" if result.frame is None else str(result.frame),
        "file": result.file or "-",
        "latency": f"{latency.total:.1f} ms (wait {latency.wait:.1f}, prepare "
        f"{latency.prepare:.1f}, infer {latency.infer:.1f})",
        "backend": result.backend + ("" if result.fallback is None else " (fallback)"),
        "device": "; ".join(result.health) or "well",
        "bundle": result.bundle,
    }
    for name, value in rows.items():
        table.add_row(table_cell(name), table_cell(value))
    return table


def _decisions(result: Result) -> dict[str, str]:
    """A row for each of several nodules; of a single one for label, score and probabilities."""
    if len(result.nodules) > 1 and result.state is State.LIVE:
        return {f"nodule {each.track}": describe_nodule(result, each) for each in result.nodules}
    label = {"label": result.label or f"none: {result.reason}"}
    if len(result.nodules) != 1:
        return label | {"score": "-"}
    nodule = result.nodules[0]
    frame = ", ".join(f"{label} {p:.3f}" for label, p in nodule.probability.items())
    return label | {"score": describe_score(result, nodule) or "-", "this frame": frame}
