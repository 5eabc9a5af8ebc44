"""Which backend computes a bundle on this machine: the first that opens and proves itself."""

import ctypes.util
import os
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
from edge_runtime.models.classifier import CPU, BackendRequest, Classifier
from edge_runtime.models.watchdog import OPENING_TIMEOUT

COMPUTABLE_VARIANTS: dict[BackendKind, tuple[Variant, ...]] = {
    "cpu": ("int8", "float32", "float16", "dynamic"),
    "gpu": ("float16", "float32"),
    "edgetpu": ("int8",),
    "delegate": ("int8", "float16", "float32"),
}
"""What each kind computes, the fastest first; on a CPU dynamic is slower than float32."""


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
    """Where nobody wishes anything: the Edge TPU if its library is installed, then the CPU.

    A GPU has to be asked for: it takes its memory from the display, and is slower to start.
    """
    has_edgetpu = ctypes.util.find_library("edgetpu") is not None
    return [NAMED_BACKENDS["edgetpu"], CPU] if has_edgetpu else [CPU]


def default_threads(live: bool) -> int:
    """As many as there are cores, but no more than four: a small model gains nothing by more.

    One core less for a recording: decoding then runs all the time, and inference in step with it.
    """
    cores = os.cpu_count() or 1
    return max(1, min(4, cores if live else cores - 1))


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
    """All that a bundle holds for the wishes, in their order: nothing in it failed the gate.

    `order` says which variant is tried first where a backend computes several.
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
    """The ways to compute a bundle here, the preferred one first; one of them is open."""

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
        """Opens none yet. What is not given the board says, and without one what is usual.

        Raises BadInput where the bundle holds no model for the wishes.
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
            raise BadInput(f"{bundle.path}: holds no model for what was asked: {asked}")
        self.threads = threads
        """Of the CPU's interpreter."""
        self._any_picture = any_picture
        self._position = 0
        self._open: Classifier | None = None
        self._attempt = object()
        self.refused: list[str] = []
        """What was preferred and why it does not compute."""

    @property
    def classifier(self) -> Classifier:
        """The open one; else the next that opens.

        Raises BadInput or HardwareMissing where none of those that are left does, RuntimeError for
        a thread that took so long to open it that another was begun.
        """
        while self._open is None:
            candidate, attempt = self._chain[self._position], self._attempt
            try:
                opened = Classifier(
                    self.bundle,
                    self.stage,
                    candidate.variant,
                    self.threads,
                    self._any_picture,
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
                self.refused.append(f"{candidate}: {error}")
                if self._position + 1 == len(self._chain):
                    raise HardwareMissing("; ".join(self.refused)) from error
                self._position += 1
        return self._open

    def opened(self, within: float = OPENING_TIMEOUT) -> Classifier:
        """As `classifier`, for who is not watched: what is not open in time is left for the next.

        Raises HardwareMissing, too, where there is none to follow one that hangs.
        """
        while self._open is None:
            done: Future[Classifier] = Future()
            work = (done, lambda: self.classifier)
            threading.Thread(target=_settle, args=work, daemon=True).start()
            try:
                return done.result(within)
            except TimeoutError:
                candidate, reason = (
                    self._chain[self._position],
                    f"hung for {within:g} s while it was opened",
                )
                if not self.fall_back(reason):
                    raise HardwareMissing(f"{candidate}: {reason}") from None
        return self._open

    def open_second(self) -> Classifier | None:
        """Another classifier of the open way, of one thread, for who has time to help the first.

        None where hardware computes, of which there is one, or where no way is open.
        """
        if (first := self._open) is None or self._chain[self._position].request.kind != "cpu":
            return None
        return first.clone(threads=1)

    def fall_back(self, reason: str) -> bool:
        """Leaves the open way for the next one; False, and nothing happens, where there is none."""
        if self._position + 1 == len(self._chain):
            return False
        self.refused.append(f"{self._chain[self._position]}: {reason}")
        self._position += 1
        self.reopen()
        return True

    def reopen(self) -> None:
        """The same way is opened once more, with an interpreter of its own."""
        self._open, self._attempt = None, object()


def _settle(done: Future[Classifier], make: Callable[[], Classifier]) -> None:
    """Answers a future with what is made, or with why nothing is."""
    try:
        done.set_result(make())
    except BaseException as error:
        done.set_exception(error)


def required_member(kind: BackendKind) -> str:
    """What a bundle has to hold for a kind of backend."""
    return EDGETPU_MEMBER if kind == "edgetpu" else " or ".join(COMPUTABLE_VARIANTS[kind])
