"""What a person sees on the terminal beside plain lines; a session that nobody watches has no use
for it, and does without the memory of its library.
"""

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devices import Pixels
from edge_runtime.commands.options import printable
from edge_runtime.result import NOTICE, Result

console = Console(stderr=True)


def cell(text: str) -> Text:
    """A table's cell of words that somebody else chose: none of them is a command."""
    return Text(printable(text))


class Terminal:
    """A live table where there is a terminal, else a line at every change."""

    sees, latest = False, True

    def __init__(self, console: Console, positive: str) -> None:
        self._positive = positive
        self._console = console
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,  # or what is drawn while a backend is opened would be lost
        )
        self._drawn = float("-inf")
        self._last: tuple[str, str | None] | None = None

    def __enter__(self) -> "Terminal":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Shows one result; a person sees no more than ten a second."""
        now = (str(result.state), result.label)
        if not self._console.is_terminal:
            if now != self._last:
                self._console.print(
                    _line(result, self._positive), highlight=False, markup=False, soft_wrap=True
                )
        elif now != self._last or result.captured_at - self._drawn >= 0.1:
            self._live.update(_table(result, self._positive), refresh=True)
            self._drawn = result.captured_at
        self._last = now


def _line(result: Result, positive: str) -> str:
    shown = "" if result.smoothed is None else f", p({positive}) {result.smoothed:.2f}"
    said = result.label or f"no label ({result.reason})"
    where = "no frame" if result.frame is None else f"frame {result.frame}"
    if result.file is not None:
        where += f" of {printable(result.file)}"
    return f"{where}: {result.state}, {said}{shown}"


def _table(result: Result, positive: str) -> Table:
    table = Table(show_header=False, title=NOTICE)
    raw = "-" if result.probability is None else f"{result.probability[positive]:.3f}"
    smoothed = "-" if result.smoothed is None else f"{result.smoothed:.3f}"
    latency = result.latency_ms
    rows = {
        "state": str(result.state),
        "label": result.label or f"none: {result.reason}",
        f"{positive}, smoothed": f"{smoothed} (threshold {result.threshold:.3f})",
        f"{positive}, this frame": raw,
        "frame": "-" if result.frame is None else str(result.frame),
        "file": result.file or "-",
        "latency": f"{latency.total:.1f} ms (wait {latency.wait:.1f}, prepare "
        f"{latency.prepare:.1f}, infer {latency.infer:.1f})",
        "backend": result.backend + ("" if result.fallback is None else " (fallback)"),
        "device": "; ".join(result.health) or "well",
        "bundle": result.bundle,
    }
    for name, value in rows.items():
        table.add_row(name, cell(value))
    return table
