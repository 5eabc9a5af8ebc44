"""The live view as a sink; `open_view` starts the server of its page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from devices import Pixels
from edge_runtime.results.result import Result
from edge_runtime.results.states import State
from edge_runtime.view.address import Address, link, listen
from edge_runtime.view.admission import Admission, Role
from edge_runtime.view.message import pack
from edge_runtime.view.operator import Operator
from edge_runtime.view.server import ViewServer


class View:
    """Gives results with their pictures to the viewers; codes nothing while nobody watches."""

    wants_pixels, latest_only = True, True

    def __init__(
        self,
        watched: Callable[[], bool],
        publish: Callable[[bytes], None],
        hold: Callable[[Result, Pixels], None],
    ) -> None:
        """`publish` takes the message of a result, from any thread, where `watched` says so.

        `hold` takes the result and its screen before.
        """
        self._watched, self._publish, self._hold = watched, publish, hold
        self._latest: Result | None = None
        self._first: tuple[int, int] | None = None
        """Frame and sequence of the first result that has a frame."""
        self._missed = 0
        self.link = self.operator_link = ""
        """The addresses of the page, with the tokens of a viewer and of an operator."""

    def write(self, result: Result, pixels: Pixels) -> None:
        """Codes the picture once for all viewers; see `Sink.write`."""
        self._count(result)
        self._latest = result
        if self._watched():
            self._hold(result, pixels)
            self._publish(pack(result, pixels, self._missed))

    def latest(self) -> bytes | None:
        """The newest result for a viewer who joins; None while the next will come by itself."""
        result = self._latest
        if result is None or result.state is State.LIVE:
            return None
        return pack(result, None, self._missed)

    def _count(self, result: Result) -> None:
        """Counts the frames of the device that have no result, from the first frame on."""
        if result.frame is None:
            if self._first is not None:  # a result without a frame stands for no frame
                self._first = (self._first[0], self._first[1] + 1)
            return
        if self._first is None or result.frame < self._first[0]:
            self._first = (result.frame, result.sequence)
        frames, results = result.frame - self._first[0], result.sequence - self._first[1]
        self._missed = max(0, frames - results)


@contextmanager
def open_view(address: Address, facts: dict[str, Any], operator: Operator) -> Iterator[View]:
    """The view at an address; `facts` of the session go to every page as JSON.

    `operator` carries out the commands of the page. Raises BadInput where it cannot listen there.
    """
    with listen(address) as listener:
        port: int = listener.getsockname()[1]
        admission = Admission(address.host, port)
        server = ViewServer(listener, admission, facts, operator)
        view = View(server.watched, server.publish, operator.hold)
        view.link = link(address, port, admission.tokens[Role.VIEWER])
        view.operator_link = link(address, port, admission.tokens[Role.OPERATOR])
        operator.start()
        server.start(view.latest)
        try:
            yield view
        finally:
            server.stop()
            operator.stop()
