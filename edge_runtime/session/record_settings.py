"""How a session judges its frames, as its record keeps it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from devices import Box
from devices.capture.kinds import RECORD_MANIFEST
from devices.schema_io import read_json
from edge_runtime.screen.saved_regions import SavedRegion

if TYPE_CHECKING:
    from devices.capture.replay import Replay

RECORD_GIGABYTES = 4.0
"""The size of a record at most, unless the user names another: six minutes of a 720p screen."""


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """How a session judges its frames."""

    bundle: str
    """The id of the bundle."""
    roi: Box | None = None
    whole_picture: bool = False
    any_picture: bool = False
    prevalence: str | None = None
    saved: tuple[SavedRegion, ...] = ()
    operated: bool = False
    """Whether the region of interest could be changed while frames came."""
    follow: bool = False
    """Whether a marked nodule is followed."""

    @property
    def roi_text(self) -> str | None:
        """The region of interest as for `--roi`."""
        return None if self.roi is None else ",".join(map(str, self.roi))


def recorded_settings(record: "Replay") -> RecordSettings:
    """How the session of a record judged. Raises BadInput, naming the first wrong entry."""
    name = f"{RECORD_MANIFEST}: settings"
    return read_json(msgspec.json.encode(record.manifest.settings), RecordSettings, name)
