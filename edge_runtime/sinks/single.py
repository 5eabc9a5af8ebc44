"""The result of a source that is a single picture, to be said at the end."""

from devices import Pixels
from edge_runtime.results.result import Result, describe_nodules


class SingleResult:
    """Keeps the result of the first frame, and counts the frames."""

    wants_pixels, latest_only = False, False

    def __init__(self) -> None:
        self._first: Result | None = None
        self._frames = 0

    def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
        """Counts a frame; see `Sink.write`."""
        if result.frame is not None:
            self._frames += 1
            self._first = self._first or result

    def line(self) -> str | None:
        """The whole result of the only frame; None where there was none, or more than one."""
        result = self._first
        if result is None or self._frames != 1:
            return None
        return f"result: {describe_nodules(result)}"
