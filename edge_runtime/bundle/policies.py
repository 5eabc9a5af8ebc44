"""How nodules are followed through a live picture and decided about over time.

The classes stand beside the manifest, which names their entries, below the functions in
`edge_runtime.nodules` that obey them.
"""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

Score = Annotated[float, Meta(ge=0, lt=1)]
"""At 1 no nodule would be found."""
Seconds = Annotated[float, Meta(ge=0, le=60)]


@dataclass(frozen=True, slots=True)
class TrackingPolicy:
    """How detections become tracks; see `edge_runtime.nodules.tracking`."""

    start_score: Score
    """A detection of at least this score may begin a track."""
    keep_score: Score
    """A detection of at least this score may continue a track; at most `start_score`."""
    min_iou: Annotated[float, Meta(gt=0, le=1)]
    """A detection belongs to a track if its intersection over union with the box of the track is at
    least this."""
    confirm_seconds: Seconds
    """A track is shown when it was followed for this time and has `confirm_hits` detections."""
    confirm_hits: Annotated[int, Meta(ge=1, le=1000)]
    """How many detections a track must have before it is shown."""
    coast_seconds: Annotated[float, Meta(ge=0, le=2)]
    """The longest time for which a track is shown without a detection. After this time a track that
    was never shown ends."""
    lost_seconds: Seconds
    """The time without a detection after which a track ends. Before that, a detection can continue
    it. At least `coast_seconds`."""
    max_nodules: Annotated[int, Meta(ge=1, le=100)]
    """The largest number of tracks at the same time."""
    show_score: Score = 0.0
    """A track is shown while the mean of its scores is at least this."""

    def __post_init__(self) -> None:
        if self.keep_score > self.start_score:
            raise ValueError("keep_score is above start_score")
        if self.coast_seconds > self.lost_seconds:
            raise ValueError("coast_seconds is longer than lost_seconds")

    @property
    def still_score(self) -> float:
        """A detection of at least this score is a nodule in a picture that stands alone."""
        return max(self.start_score, self.show_score)


@dataclass(frozen=True, slots=True)
class PoolingPolicy:
    """How the frames of one nodule become one decision; see `edge_runtime.nodules.pooling`."""

    memory_seconds: Annotated[float, Meta(gt=0, le=600)]
    """Time constant of the exponential forgetting."""
    correlation_seconds: Annotated[float, Meta(gt=0, le=60)]
    """The time after which a frame counts as another view of the nodule: twice the integrated
    autocorrelation time of the log-odds. A frame counts for this time at most."""
    view_deviation: Annotated[float, Meta(gt=0, le=10)]
    """The standard deviation of the log-odds between independent views of one nodule."""
    full_sharpness: Annotated[float, Meta(gt=0, le=1)]
    """A frame of at least this sharpness has its full weight."""
    min_seconds: Seconds
    """There is no label before these weighted seconds; less than `memory_seconds`."""
    hysteresis: Annotated[float, Meta(ge=0, lt=0.5)]
    """A label begins when the probability is beyond the margin by at least this, and stays until
    the probability is within the margin."""
    hold_seconds: Seconds
    """The time without a label between two different labels."""

    def __post_init__(self) -> None:
        if self.min_seconds >= self.memory_seconds:
            raise ValueError("min_seconds is not shorter than memory_seconds: no label would come")
