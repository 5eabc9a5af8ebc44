"""The live view as a sink; `open_view` starts the server of its page."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from devices import Pixels
from edge_runtime.results.result import Result
from edge_runtime.results.states import State
from edge_runtime.view.address import Address, link, listen, local_host
from edge_runtime.view.admission import Admission, Role
from edge_runtime.view.message import pack
from edge_runtime.view.operator import Operator
from edge_runtime.view.server import ViewServer

if TYPE_CHECKING:
    from edge_runtime.view.certificate import Certificate


class View:
    """Gives results with their pictures to the viewers; codes nothing while nobody watches."""

    wants_pixels, latest_only = True, True

    def __init__(
        self,
        watched: Callable[[], bool],
        publish: Callable[[bytes], None],
        introduce: Callable[[dict[str, Any]], None],
    ) -> None:
        """`publish` takes the message of a result, from any thread, where `watched` says so.

        `introduce` takes the facts of a session.
        """
        self.watched, self._publish, self._introduce = watched, publish, introduce
        self.hold: Callable[[Result, Pixels], None] | None = None
        """Takes a result and its screen before they are published."""
        self._latest: Result | None = None
        self._first: tuple[int, int] | None = None
        """Frame and sequence of the first result that has a frame."""
        self._missed = 0
        self.link = self.operator_link = self.local_link = ""
        """The addresses of the page, with the token of a viewer and of an operator for other
        machines, and of a viewer for this one."""

    def begin(self, facts: dict[str, Any]) -> None:
        """Begins a session: every page gets its facts as JSON, and forgets the one before."""
        self._latest = self._first = None
        self._missed = 0
        self._introduce(facts)

    def write(self, result: Result, pixels: Pixels) -> None:
        """Codes the picture once for all viewers; see `Sink.write`."""
        self._count(result)
        self._latest = result
        if self.watched():
            if self.hold is not None:
                self.hold(result, pixels)
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
def open_view(
    address: Address,
    facts: dict[str, Any],
    operator: Operator | None = None,
    certificate: "Certificate | None" = None,
    token: str | None = None,
) -> Iterator[View]:
    """The view at an address; `facts` of the session go to every page as JSON.

    `operator` carries out the commands of the page; without it everybody only watches. The view is
    encrypted where there is a certificate. Without `token` viewers have a new one. Raises BadInput
    where it cannot listen there.
    """
    encrypted = certificate is not None
    names = () if certificate is None else certificate.names
    with listen(address) as listener:
        port: int = listener.getsockname()[1]
        admission = Admission(address.host, port, token=token, encrypted=encrypted, names=names)
        server = ViewServer(
            listener, admission, operator, certificate.context if certificate else None
        )
        view = View(server.watched, server.publish, server.introduce)
        scheme = "https" if encrypted else "http"
        watching, operating = admission.tokens[Role.VIEWER], admission.tokens[Role.OPERATOR]
        view.link = link(address, port, watching, scheme, names)
        own = Address(local_host(address.host), port)
        view.local_link = link(own, port, watching, scheme)
        if operator is not None:
            view.operator_link = link(address, port, operating, scheme, names)
            view.hold = operator.hold
            operator.start()
        view.begin(facts)
        server.start(view.latest)
        try:
            yield view
        finally:
            server.stop()
            if operator is not None:
                operator.stop()
