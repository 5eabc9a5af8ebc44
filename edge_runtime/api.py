"""The Python interface: verify a bundle, classify an image, follow the results of a source.

Results are for research use only, not for diagnosis.

Examples:
    Classify one image, here a simulated one. Its box is drawn as tight as the boxes that the model
    learnt:

    >>> from edge_runtime import Box, Model, load_shipped_bundle
    >>> from devices.capture.phantom import Phantom
    >>> model = Model(load_shipped_bundle(), any_picture=True)
    >>> nodule = model.classify(Phantom(live=False).render(0), Box(167, 190, 108, 100))
    >>> sorted(nodule.probability)
    ['benign', 'malignant']

    Iterate over the results of a source. A recording gives a result for each frame:

    >>> from edge_runtime import results_of
    >>> [result.frame for result in results_of(model, "phantom:?frames=3&live=no")]
    [0, 1, 2]

    Write a sink of your own, and give it to a session:

    >>> from edge_runtime import classify_source
    >>> class Count:
    ...     wants_pixels, latest_only = False, False
    ...     frames = 0
    ...     def write(self, result, pixels):
    ...         self.frames += result.frame is not None
    >>> count = Count()
    >>> summary = classify_source(model, "phantom:?frames=3&live=no", [count])
    >>> (count.frames, summary.read)
    (3, 3)

    Write a capture device of your own. It stands wherever a source does:

    >>> import time
    >>> import numpy as np
    >>> from edge_runtime import CaptureDevice, EndOfRecording, Frame
    >>> class Noise(CaptureDevice):
    ...     live, fps = False, 20.0
    ...     def __init__(self, frames):
    ...         self._frames = iter(range(frames))
    ...     def read(self, timeout):
    ...         for index in self._frames:
    ...             pixels = np.random.default_rng(index).integers(0, 255, (240, 320), np.uint8)
    ...             return Frame(pixels, time.monotonic(), index, timestamp=index / self.fps)
    ...         raise EndOfRecording("all frames were read")
    >>> [result.state.name for result in results_of(model, Noise(2))]
    ['LIVE', 'LIVE']

"""

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from devices import BadInput, Box, CaptureDevice, Pixels
from edge_runtime.bundle.archive import Bundle, open_trusted
from edge_runtime.bundle.shipped import open_shipped
from edge_runtime.bundle.trust import admitted_versions, read_trusted, trusted_folder
from edge_runtime.models.backends import FallbackChain, parse_backend
from edge_runtime.nodules.decide import OUT_OF_SCOPE, decide
from edge_runtime.results.result import Nodule, Result
from edge_runtime.results.summary import Summary
from edge_runtime.session.assemble import assemble, open_source
from edge_runtime.session.pipeline import LATENCY_BUDGET
from edge_runtime.sinks.sink import Sink

RESULTS_AHEAD = 8
"""Results that `results_of` keeps for its reader before a recording has to wait."""


def load_bundle(path: Path | str, trusted: Path | str | None = None) -> Bundle:
    """Opens a bundle, and verifies every byte and the signature.

    `trusted` is the folder of trusted public keys, `*.pem`; without it the keys are those of
    `sonolite keys list`. Raises BadInput where the bundle is damaged, not signed, signed by another
    key, or older than a version that ran on this machine.
    """
    folder = trusted_folder() if trusted is None else Path(trusted)
    return open_trusted(Path(path), read_trusted(folder).keys, admitted_versions())


def load_shipped_bundle() -> Bundle:
    """Opens and verifies the bundle in the package, a thyroid nodule classifier."""
    with open_shipped() as bundle:
        return bundle


class Model:
    """The models of a bundle on this machine, opened and proven on the bundle's golden frames."""

    def __init__(
        self,
        bundle: Bundle,
        backends: Sequence[str] = (),
        threads: int | None = None,
        any_picture: bool = False,
    ) -> None:
        """Opens the first backend that computes the bundle.

        `backends` are named as for `sonolite run --backend`, the preferred one first. With
        `any_picture` pictures out of scope get labels, too.
        Raises BadInput or HardwareMissing where no backend computes the bundle.
        """
        requests = [parse_backend(name) for name in backends]
        self.chain = FallbackChain(
            bundle, bundle.manifest.classifier, requests, None, threads, any_picture
        )
        self.chain.opened()

    @property
    def bundle(self) -> Bundle:
        """The bundle that the models are from."""
        return self.chain.bundle

    def classify(
        self, pixels: Pixels, box: Box | None = None, whole_picture: bool = False
    ) -> Nodule:
        """Classifies one image by itself.

        `pixels` is uint8, ``H x W`` grey or ``H x W x 3`` in OpenCV's order, blue first. `box` is
        the nodule in pixels of the image. A model that learnt marked nodules needs it, unless
        `whole_picture` asks for the image whole, which such a model classifies badly.
        Raises BadInput where the box is missing or lies outside the image, or the square around it
        is too large, RuntimeError where inference fails.
        """
        if box is None and not whole_picture and self.chain.stage.learnt == "boxes":
            raise BadInput("this model learnt marked nodules: give the box of the nodule")
        classifier, stage = self.chain.opened(), self.chain.stage
        height, width = pixels.shape[:2]
        preprocessing = classifier.preprocessing
        prediction = classifier.predict(preprocessing(pixels, box))
        probability = dict(zip(stage.labels, prediction.probability.tolist(), strict=True))
        score = prediction.out_of_scope_score
        in_scope = score is None or score <= 1
        label, reason = decide(probability, stage) if in_scope else (None, OUT_OF_SCOPE)
        return Nodule(
            track=1,
            box=Box(0, 0, width, height) if box is None else box,
            window=preprocessing.window(width, height, box),
            label=label,
            reason=reason,
            probability=probability,
            smoothed=probability if in_scope else None,
            interval=None,
            adjusted=None,
            thresholds=stage.operating_point.thresholds,
            locator_score=None,
            out_of_scope_score=score,
            evidence=None if label is None else prediction.evidence,
        )


def classify_source(
    model: Model,
    source: str | CaptureDevice,
    sinks: Sequence[Sink],
    roi: str | None = None,
    budget: float = LATENCY_BUDGET,
    stop: threading.Event | None = None,
    whole_picture: bool = False,
    prevalence: str | None = None,
    follow: bool = False,
) -> Summary:
    """Runs a session to its end, and returns the account of every frame.

    `source` is a URI as for `sonolite run --source`, or an open capture device, which is closed at
    the end. `roi` is `x,y,w,h` of the nodule on the screen; without it a model that learnt marked
    nodules classifies nothing, unless `whole_picture` asks for it. `prevalence` and
    `follow` as for `sonolite run`. Set `stop` to end a live session.
    Raises what ended a live session, such as DeviceLost, and BadInput for a damaged recording.
    """
    with ExitStack() as stack:
        device = stack.enter_context(open_source(source) if isinstance(source, str) else source)
        session = assemble(
            device,
            model.chain,
            roi,
            budget=budget,
            whole_picture=whole_picture,
            prevalence=prevalence,
            follow=follow,
        )
        summary, error = session.run(sinks, stop or threading.Event())
    if error is not None:
        raise error
    return summary


def results_of(
    model: Model,
    source: str | CaptureDevice,
    roi: str | None = None,
    budget: float = LATENCY_BUDGET,
    whole_picture: bool = False,
    prevalence: str | None = None,
    follow: bool = False,
) -> Iterator[Result]:
    """Iterates over the results of a source; see `classify_source`.

    Of a live source the reader gets the newest results: those that it is too slow for are dropped.
    Leaving the loop ends the session.
    """
    left, stop = threading.Event(), threading.Event()
    results: queue.Queue[Result | BaseException | None] = queue.Queue(RESULTS_AHEAD)

    class Handover:
        wants_pixels, latest_only = False, False

        def write(self, result: Result, pixels: Pixels) -> None:  # noqa: ARG002
            put(result)

    def put(item: Result | BaseException | None) -> None:
        while not left.is_set():
            with suppress(queue.Full):
                results.put(item, timeout=0.1)
                return

    def run() -> None:
        try:
            sinks = [Handover()]
            classify_source(
                model, source, sinks, roi, budget, stop, whole_picture, prevalence, follow
            )
        except BaseException as error:
            put(error)
        else:
            put(None)

    thread = threading.Thread(target=run, name="results", daemon=True)
    thread.start()
    try:
        while not isinstance(item := results.get(), BaseException) and item is not None:
            yield item
        if item is not None:
            raise item
    finally:
        left.set()
        stop.set()
        thread.join()
