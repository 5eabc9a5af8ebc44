"""Assembles a session: a capture device, the models of a bundle, and the region to classify.

`sonolite run`, the deployed service and `bench` all begin here.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devices import BadInput, CaptureDevice, SonoliteError
from devices.capture import SourceUri, device_opener
from devices.capture.reconnecting import Reconnecting
from edge_runtime.models.backends import FallbackChain
from edge_runtime.models.classifier import default_threads
from edge_runtime.models.locator import Locator
from edge_runtime.nodules.prevalence import parse_prevalence
from edge_runtime.results.states import State
from edge_runtime.results.summary import Summary
from edge_runtime.screen.region import Region, parse_roi
from edge_runtime.screen.saved_regions import SavedRegion, ScreenSize
from edge_runtime.session.pipeline import LATENCY_BUDGET, run_session
from edge_runtime.session.record_settings import RecordSettings, recorded_settings
from edge_runtime.session.throttle import Throttle
from edge_runtime.sinks.sink import Sink

if TYPE_CHECKING:
    from edge_runtime.session.frame_recorder import FrameRecorder


@dataclass(frozen=True)
class Session:
    """A session whose device and models are open."""

    device: CaptureDevice
    chain: FallbackChain
    region: Region
    budget: float
    throttle: Throttle
    prevalence: dict[str, float] | None
    locator: Locator | None
    """Finds nodules; None where the bundle has no locator, or where every nodule is marked."""
    settings: RecordSettings
    """How the session judges, for its record."""

    def run(
        self,
        sinks: Sequence[Sink],
        stop: threading.Event,
        heartbeat: Callable[[State], None] = lambda _: None,
        frame_recorder: "FrameRecorder | None" = None,
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
            prevalence=self.prevalence,
            locator=self.locator,
            frame_recorder=frame_recorder,
        )


def open_source(source: str | SourceUri) -> Reconnecting:
    """Opens the capture device of a URI; a device that is lost is opened again.

    Foreign bytes are decoded in a process of their own.

    Raises BadInput, DeviceLost or HardwareMissing where the device cannot be opened now.
    """
    return Reconnecting(device_opener(source, apart=True))


def assemble(
    device: CaptureDevice,
    chain: FallbackChain,
    roi: str | None = None,
    saved: Mapping[ScreenSize, SavedRegion] | None = None,
    budget: float = LATENCY_BUDGET,
    throttle: Throttle | None = None,
    whole_picture: bool = False,
    prevalence: str | None = None,
    operated: bool = False,
    follow: bool = False,
) -> Session:
    """Opens the models for an open device.

    `roi` is the nodule, `x,y,w,h` on the screen. Without it the locator of the bundle finds the
    nodules in the ultrasound picture, which lies where `saved` says for the size of the screen,
    else where the device says, else where it is found. A bundle without a locator then classifies
    nothing if its classifier learnt marked nodules, unless `whole_picture` asks for it.

    `operated` says that `roi` may be cleared while frames come: the locator is opened although
    there is `roi`. With `follow` the box follows the marked nodule, for which the bundle needs a
    locator. `prevalence` as for `parse_prevalence`. The record of a session is judged with the
    settings of that session, where an argument gives no other.

    Raises BadInput for an invalid region or prevalence, and BadInput or HardwareMissing where no
    backend opens a model.
    """
    stage, live = chain.stage, device.live
    if device.replay is not None:
        recorded, live = recorded_settings(device.replay), device.replay.manifest.live
        roi = roi or recorded.roi_text
        saved = saved or {region.screen: region for region in recorded.saved}
        whole_picture = whole_picture or recorded.whole_picture
        prevalence = prevalence or recorded.prevalence
        operated = operated or recorded.operated
        follow = follow or recorded.follow
    settings = RecordSettings(
        bundle=chain.bundle.id,
        roi=parse_roi(roi) if roi else None,
        whole_picture=whole_picture,
        any_picture=chain.any_picture,
        prevalence=prevalence,
        saved=tuple((saved or {}).values()),
        operated=operated,
        follow=follow,
    )
    whole = whole_picture or stage.learnt == "pictures"
    region = Region(settings.roi, saved, device.region, whole, follow)
    shares = parse_prevalence(prevalence, stage, "--prevalence") if prevalence else None
    chain.threads = chain.threads or default_threads(live)
    chain.opened()
    search = chain.bundle.manifest.locator
    if follow and (search is None or whole):
        reason = "no locator" if search is None else "nothing to follow in a whole picture"
        raise BadInput(f"--follow: {chain.bundle.id} has {reason}")
    marked = (settings.roi is not None and not operated and not follow) or whole
    locator = (
        None if search is None or marked else Locator(chain.bundle, search, threads=chain.threads)
    )
    region.may_follow = locator is not None
    return Session(device, chain, region, budget, throttle or Throttle(), shares, locator, settings)
