"""Every kind of source, once: what opens it, how it is written, what it needs.

Help texts, refusals, `sonolite doctor` and the table in docs/sources.md all ask here.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from devices.capture.kinds import Kind
from devices.errors import BadInput
from devices.frame import CaptureDevice, Clock

if TYPE_CHECKING:
    from devices.capture.source_uri import SourceUri


@dataclass(frozen=True)
class Library:
    """What a kind of source, sink or page needs beside the base install."""

    about: str
    """What it is for, as `DICOM files`."""
    distribution: str
    modules: tuple[str, ...]
    """All of which must be there; the first that is not is named."""
    extra: str | None
    """The extra of sonolite that installs it; None where the base install has it."""

    @property
    def cure(self) -> str:
        """The command that installs it."""
        extra = "" if self.extra is None else f"[{self.extra}]"
        return f"pip install 'sonolite{extra}'"

    def missing(self) -> str | None:
        """The first module that is not installed; None where all are."""
        return next((name for name in self.modules if not _is_installed(name)), None)

    def require(self) -> None:
        """Raises BadInput, with the cure, where it is not installed."""
        if (name := self.missing()) is not None:
            raise BadInput(f"{self.about} need {name}: {self.cure}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of `a.b` where there is no `a`
        return False


OPENCV = Library("video files", "opencv-python-headless", ("cv2",), None)
PYDICOM = Library(
    "DICOM files", "pydicom", ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "rle"), "dicom"
)
"""Of pydicom, of the decoder, and of its parts: JPEG and JPEG-LS, JPEG 2000, RLE."""
PYNETDICOM = Library(
    "senders and worklists of DICOM", "pynetdicom", ("pynetdicom", *PYDICOM.modules), "dicom"
)
PYAV = Library("network streams", "av", ("av",), "stream")
LIBRARIES = (OPENCV, PYDICOM, PYNETDICOM, PYAV)


@dataclass(frozen=True)
class Source:
    """One kind of source."""

    example: str
    """How it is written."""
    about: str
    opener: str
    """MODULE:NAME of what takes the URI, or the path of a file, and a clock."""
    scheme: str | None = None
    """What its URI begins with; None for what lies on disk."""
    address: bool = False
    """Whether `//` must follow the scheme."""
    live: bool = False
    simulated: bool = False
    foreign: bool = False
    """Whether bytes from elsewhere are decoded by native code, which a session does apart."""
    library: Library | None = None

    @property
    def prefix(self) -> str | None:
        """What is written before the rest, as `rtsp://` or `phantom:`."""
        written = "://" if "://" in self.example else ":"
        return None if self.scheme is None else f"{self.scheme}{written}"

    def open(self, name: "SourceUri | Path", clock: Clock) -> CaptureDevice:
        """The capture device; the module is loaded now."""
        module, _, attribute = self.opener.partition(":")
        device: CaptureDevice = getattr(import_module(module), attribute)(name, clock)
        return device


_CAPTURE = "devices.capture"
SCHEMES: tuple[Source, ...] = (
    Source(
        "v4l2:///dev/video0",
        "camera or frame grabber; its index, as `0`, is enough",
        f"{_CAPTURE}.camera:open_camera",
        scheme="v4l2",
        live=True,
    ),
    *(
        Source(
            f"{scheme}://HOST/PATH",
            "network stream",
            f"{_CAPTURE}.stream:Stream",
            scheme=scheme,
            address=True,
            live=True,
            foreign=True,
            library=PYAV,
        )
        for scheme in ("rtsp", "http", "https")
    ),
    Source(
        "igtl://HOST:18944/NAME",
        "OpenIGTLink server: 3D Slicer, PLUS, research scanners",
        f"{_CAPTURE}.igtl:Igtl",
        scheme="igtl",
        live=True,
    ),
    Source(
        "dicom-listen:11112",
        "stills and clips that a scanner sends by DICOM (C-STORE), judged as they come",
        f"{_CAPTURE}.dicom_listen:DicomListen",
        scheme="dicom-listen",
        library=PYNETDICOM,
    ),
    Source(
        "phantom:",
        "simulated probe",
        f"{_CAPTURE}.phantom:open_phantom",
        scheme="phantom",
        live=True,
        simulated=True,
    ),
    Source(
        "script:faults",
        "simulated probe that fails by script",
        f"{_CAPTURE}.script:open_script",
        scheme="script",
        live=True,
        simulated=True,
    ),
)
FILES: dict[Kind, Source] = {
    Kind.VIDEO: Source(
        "sweep.mp4",
        "video, as .avi, .mkv and .mov are",
        f"{_CAPTURE}.video:Video",
        foreign=True,
        library=OPENCV,
    ),
    Kind.DICOM: Source(
        "clip.dcm",
        "DICOM file, still or moving",
        f"{_CAPTURE}.dicom:Dicom",
        foreign=True,
        library=PYDICOM,
    ),
    Kind.IMAGE: Source(
        "image.png",
        "every picture in it, each alone",
        f"{_CAPTURE}.folder:ImageFolder",
        foreign=True,
    ),
}
FOLDER = Source(
    "folder/",
    "images and DICOM files in the natural order of their names, each alone",
    f"{_CAPTURE}.folder:ImageFolder",
    foreign=True,
)

RECORD_FOLDER = Source(
    "record/",
    "record of a session, which `run --record` keeps",
    f"{_CAPTURE}.replay:Replay",
)


def scheme_of(uri: str) -> Source | None:
    """What the scheme of `uri` names; None where it has none that is known."""
    scheme, separator, rest = uri.partition(":")
    if not separator:
        return None
    return next(
        (
            source
            for source in SCHEMES
            if source.scheme == scheme and (not source.address or rest.startswith("//"))
        ),
        None,
    )


def prefixes() -> str:
    """What a URI may begin with, for a line that tells it."""
    return ", ".join(filter(None, (source.prefix for source in SCHEMES)))


def examples() -> str:
    """How sources are written, for a help text."""
    return ", ".join(
        ("0", *(source.example for source in (*SCHEMES, *FILES.values(), FOLDER, RECORD_FOLDER)))
    )


def on_disk(name: str) -> bool:
    """Whether there is a file or folder of this name; any text may be asked for."""
    try:
        return bool(name) and Path(name).exists()
    except (OSError, ValueError):
        return False
