"""Assembles a session: a capture device, the models of a bundle, and the region to classify.

`sonolite run`, the deployed service and `bench` all begin here.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from devices import CaptureDevice, SonoliteError
from devices.capture import device_opener
from devices.capture.reconnecting import Reconnecting
from edge_runtime.models.backends import FallbackChain, default_threads
from edge_runtime.results.states import State
from edge_runtime.results.summary import Summary
from edge_runtime.screen.region import Region, parse_roi
from edge_runtime.screen.saved_regions import SavedRegion, ScreenSize
from edge_runtime.session.pipeline import LATENCY_BUDGET, run_session
from edge_runtime.session.throttle import Throttle
from edge_runtime.sinks.sink import Sink


@dataclass(frozen=True)
class Session:
    """A session whose device and models are open."""

    device: CaptureDevice
    chain: FallbackChain
    region: Region
    budget: float
    throttle: Throttle

    def run(
        self,
        sinks: Sequence[Sink],
        stop: threading.Event,
        heartbeat: Callable[[State], None] = lambda _: None,
    ) -> tuple[Summary, SonoliteError | None]:
        """Classifies frames until `stop` is set or the device ends; see `run_session`."""
        return run_session(
            self.device,
            self.chain,
            self.region,
            sinks,
            stop,
            self.budget,
            heartbeat=heartbeat,
            throttle=self.throttle,
        )


def open_source(source: str) -> Reconnecting:
    """Opens the capture device of a URI; a device that is lost is opened again.

    Raises BadInput, DeviceLost or HardwareMissing where the device cannot be opened now.
    """
    return Reconnecting(device_opener(source))


def assemble(
    device: CaptureDevice,
    chain: FallbackChain,
    roi: str | None = None,
    saved: Mapping[ScreenSize, SavedRegion] | None = None,
    budget: float = LATENCY_BUDGET,
    throttle: Throttle | None = None,
) -> Session:
    """Opens the models for an open device.

    `roi` is `x,y,w,h` on the screen. Without it the region comes from `saved`, by the size of the
    screen, then from the device, then from a search of the screen.
    Raises BadInput for an `roi` that is no region, and BadInput or HardwareMissing where no backend
    opens a model.
    """
    region = Region(parse_roi(roi) if roi else None, saved, device.region)
    chain.threads = chain.threads or default_threads(device.live)
    chain.opened()
    return Session(device, chain, region, budget, throttle or Throttle())
