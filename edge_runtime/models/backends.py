"""Which backend computes a bundle on this machine: the first that opens and answers the golden
frames.
"""

import ctypes.util
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from urllib.parse import parse_qsl

from devices import BadInput, HardwareMissing, SonoliteError
from devices.boards import Board
from devices.compute import EDGETPU, BackendKind
from edge_runtime.bundle.archive import Bundle
from edge_runtime.bundle.manifest import EDGETPU_MEMBER, ClassifierStage, Variant
from edge_runtime.models.classifier import CPU, CPU_PREFERENCE, BackendRequest, Classifier
from edge_runtime.models.watchdog import OPENING_TIMEOUT

_LOGGER = logging.getLogger(__name__)

COMPUTABLE_VARIANTS: dict[BackendKind, tuple[Variant, ...]] = {
    "cpu": CPU_PREFERENCE,
    "gpu": ("float16", "float32"),
    "edgetpu": ("int8",),
    "delegate": ("int8", "float16", "float32"),
}
"""The variants that each kind computes, the fastest first."""

NAMED_BACKENDS: dict[BackendKind, BackendRequest] = {
    "cpu": CPU,
    "gpu": BackendRequest("gpu"),
    "edgetpu": BackendRequest("edgetpu", EDGETPU),
}


def parse_backend(word: str) -> BackendRequest:
    """Reads `cpu`, `gpu`, `edgetpu`, or a delegate's library, as in `/usr/lib/libx.so?key=value`.

    Raises BadInput where it is none of these.
    """
    for kind, request in NAMED_BACKENDS.items():
        if word == kind:
            return request
    library, _, query = word.partition("?")
    if ".so" not in library:
        raise BadInput(f"--backend {word}: cpu, gpu, edgetpu, or a delegate's library, LIB.so")
    try:
        options = parse_qsl(query, strict_parsing=bool(query), keep_blank_values=True)
    except ValueError as error:
        raise BadInput(f"--backend {word}: options are written ?key=value&key=value") from error
    return BackendRequest("delegate", library, tuple(options))


def default_requests() -> list[BackendRequest]:
    """The backends without a request: the Edge TPU if its library is installed, then the CPU.

    A user has to request a GPU: it takes memory from the display, and starts more slowly.
    """
    has_edgetpu = ctypes.util.find_library("edgetpu") is not None
    return [NAMED_BACKENDS["edgetpu"], CPU] if has_edgetpu else [CPU]


@dataclass(frozen=True)
class BackendCandidate:
    """One model on one backend."""

    request: BackendRequest
    variant: Variant
    member: str

    def __str__(self) -> str:
        return f"{self.request.kind} {self.member}"


def find_candidates(
    bundle: Bundle,
    stage: ClassifierStage,
    requests: Sequence[BackendRequest],
    variant: Variant | None = None,
    order: Sequence[Variant] = (),
) -> Iterator[BackendCandidate]:
    """The models of a bundle that the requested backends can run, in the order of the requests.

    `order` says which variant comes first where a backend computes several.
    """
    for request in requests:
        computed = COMPUTABLE_VARIANTS[request.kind]
        for name in sorted(
            computed, key=lambda name: order.index(name) if name in order else len(order)
        ):
            if name not in stage.variants or variant not in (None, name):
                continue
            member = EDGETPU_MEMBER if request.kind == "edgetpu" else stage.variants[name]
            if member in bundle.manifest.members:
                yield BackendCandidate(request, name, member)


class FallbackChain:
    """The backends that can compute a bundle here, the preferred one first. One of them is open."""

    def __init__(
        self,
        bundle: Bundle,
        stage: ClassifierStage,
        requests: Sequence[BackendRequest] | None = None,
        variant: Variant | None = None,
        threads: int | None = None,
        any_picture: bool = False,
        board: Board | None = None,
    ) -> None:
        """Opens no backend yet. The board, else a default, replaces an argument that is missing.

        Raises BadInput where the bundle holds no model for the requests.
        """
        self.bundle, self.stage = bundle, stage
        if board is not None:
            requests = requests or [NAMED_BACKENDS[kind] for kind in board.backends]
            threads = threads or board.threads
        requests = requests or default_requests()
        if variant is not None and variant not in stage.variants:
            contents = ", ".join(stage.variants)
            raise BadInput(f"{bundle.path}: no variant {variant}; there are {contents}")
        order = () if board is None else board.variants
        self._chain = list(find_candidates(bundle, stage, requests, variant, order))
        if not self._chain:
            asked = "; ".join(
                f"{request.kind} takes {required_member(request.kind)}" for request in requests
            )
            raise BadInput(f"{bundle.path}: holds no model for the requested backend: {asked}")
        self.threads = threads
        """Threads of the CPU's interpreter."""
        self.any_picture = any_picture
        """Whether the scope of the model is ignored."""
        self._position = 0
        self._open: Classifier | None = None
        self._attempt = object()
        self.refused: list[str] = []
        """Each preferred backend that does not compute, with the reason."""

    @property
    def classifier(self) -> Classifier:
        """The open classifier; else that of the next backend that opens.

        Raises BadInput or HardwareMissing where no backend of the rest opens. Raises RuntimeError
        in a thread that opened its backend too late, after another attempt was begun.
        """
        while self._open is None:
            candidate, attempt = self._chain[self._position], self._attempt
            try:
                opened = Classifier(
                    self.bundle,
                    self.stage,
                    candidate.variant,
                    self.threads,
                    self.any_picture,
                    candidate.request,
                )
                if attempt is not self._attempt:
                    raise RuntimeError(f"{candidate}: opened too late")
                self._open = opened
            except SonoliteError as error:
                if attempt is not self._attempt:
                    raise RuntimeError(f"{candidate}: refused too late") from error
                if len(self._chain) == 1:
                    raise
                self._refuse(str(error))
                if self._position + 1 == len(self._chain):
                    raise HardwareMissing("; ".join(self.refused)) from error
                self._position += 1
        return self._open

    def opened(self, within: float = OPENING_TIMEOUT) -> Classifier:
        """The open classifier, for a thread that nobody watches: a backend that does not open
        within `within` seconds gives way to the next.

        Raises as `classifier`, and HardwareMissing where the last backend hangs.
        """
        while self._open is None:
            done: Future[Classifier] = Future()
            work = (done, lambda: self.classifier)
            threading.Thread(target=_settle, args=work, daemon=True).start()
            try:
                return done.result(within)
            except TimeoutError:
                candidate = self._chain[self._position]
                reason = f"hung for {within:g} s while it was opened"
                if not self.fall_back(reason):
                    raise HardwareMissing(f"{candidate}: {reason}") from None
        return self._open

    def open_second(self) -> Classifier | None:
        """A second classifier on the open backend, with one thread, to help the first.

        None where no backend is open, or where the open one is hardware, of which there is one.
        """
        if (first := self._open) is None or self._chain[self._position].request.kind != "cpu":
            return None
        return first.clone(threads=1)

    def fall_back(self, reason: str) -> bool:
        """Leaves the open backend for the next; returns False, and does nothing, without a next."""
        if self._position + 1 == len(self._chain):
            return False
        self._refuse(reason)
        self._position += 1
        self.reopen()
        return True

    def _refuse(self, reason: str) -> None:
        """Notes why the backend of this position does not compute."""
        self.refused.append(f"{self._chain[self._position]}: {reason}")
        _LOGGER.warning("backend refused: %s", self.refused[-1])

    def reopen(self) -> None:
        """Has the same backend opened once more, with a new interpreter."""
        self._open, self._attempt = None, object()


def _settle(done: Future[Classifier], make: Callable[[], Classifier]) -> None:
    """Settles a future with the result of `make`, or with its error."""
    try:
        done.set_result(make())
    except BaseException as error:
        done.set_exception(error)


def required_member(kind: BackendKind) -> str:
    """The member or the variants that a kind of backend needs in a bundle."""
    return EDGETPU_MEMBER if kind == "edgetpu" else " or ".join(COMPUTABLE_VARIANTS[kind])
