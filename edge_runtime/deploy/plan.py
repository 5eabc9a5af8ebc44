"""The plan of a deployment, made with questions to the device that change nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from devices import BadInput
from devices.boards import Board, read_board
from devices.capture import DICOM
from devices.capture.registry import PYDICOM, scheme_of
from devices.schema_io import read_json
from edge_runtime.bundle.archive import Bundle, open_trusted
from edge_runtime.bundle.signing import fingerprint, public_pem
from edge_runtime.bundle.trust import read_trusted, trusted_folder
from edge_runtime.deploy.pack import pack_tool
from edge_runtime.deploy.ssh import SshDevice
from edge_runtime.deploy.wheelhouse import Environment, gather_wheels
from edge_runtime.release.address import DEFAULT_ADDRESS
from edge_runtime.release.config import Config, make_config, parse_config
from edge_runtime.release.layout import (
    CONFIG,
    DEFAULT_ROOT,
    OPERATOR_TOKEN,
    TOOL,
    VIEW_TOKEN,
    Refused,
)
from edge_runtime.release.stage import file_sha256, release_name
from edge_runtime.screen.region import parse_roi
from edge_runtime.sinks.open import DICOM_OBJECTS, SINK_LIBRARIES
from edge_runtime.sinks.sink_uri import SinkUri

UNPACKED_FACTOR = 5
"""Bytes on the disk of the device for one byte of a wheel: sent, unpacked, and compiled."""
SPARE_BYTES = 50_000_000
"""Bytes that must stay free on the disk of the device."""
KIOSK_GROUPS = ("video", "render")
"""The groups of the screen and of the GPU on Debian."""
EMPTY_STATUS: dict[str, Any] = {
    "current": None,
    "good": None,
    "running": False,
    "trial": None,
    "releases": {},
    "environments": [],
    "config": None,
    "trusted": {},
}
"""The status of a device without a deployment."""


class _Status(msgspec.Struct):
    """What the host relies on in the status of a device, which may be damaged or hostile."""

    current: str | None
    good: str | None
    running: bool
    trial: str | None
    releases: dict[str, dict[str, Any]]
    environments: list[str]
    trusted: dict[str, str]
    previous: str | None = None
    outcome: dict[str, Any] | None = None
    view: dict[str, Any] | None = None
    damaged: tuple[str, ...] = ()
    surplus: bool = False


SENT_TOOL_SCRIPT = """\
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/release.pyz"
"$1" -I "$folder/release.pyz" status "$2"
"""


@dataclass(frozen=True)
class DeploymentRequest:
    """A wanted deployment: the bundle, the settings, and the options."""

    bundle: Path
    board: str
    root: str = DEFAULT_ROOT
    settings: dict[str, Any] | None = None
    """Settings of the configuration to change; the others stay."""
    view: dict[str, Any] | None = None
    """Settings of the live view to change; the others stay."""
    wheels: Path | None = None
    """A folder of wheels, in the place of those in the lock file."""
    trust: bool = False
    """Whether the device trusts the signer of the bundle from now on."""
    wait: float = 30.0
    """Seconds to wait for the end of an examination."""
    force: bool = False
    kiosk: bool | None = None
    """Whether the device shows its view on its own screen; None leaves it as it is."""
    exams: bool | None = None
    """Whether the device keeps exams; None leaves it as it is."""
    retention: dict[str, float] | None = None
    """Settings of the exams to change; the others stay."""


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a device says of itself; see `edge_runtime.deploy.probe`."""

    machine: str
    system: str
    libc: tuple[str, str]
    pythons: dict[str, str]
    free: int
    user: str
    is_root: bool
    systemd: bool
    groups: tuple[str, ...]
    exists: bool
    writable: bool
    own: bool
    """Whether no other user can change the root and the tool."""
    tool: str | None
    unit: str | None
    kiosk: str | None
    """The sha256 of the kiosk's unit; None where none is installed."""


@dataclass(frozen=True)
class DeploymentPlan:
    """A request with all the facts that the steps need."""

    request: DeploymentRequest
    facts: DeviceFacts
    status: dict[str, Any]
    bundle: Bundle
    digest: str
    environment: Environment
    config: Config
    tool: bytes

    @property
    def release(self) -> str:
        """The name of the release."""
        return release_name(self.digest, self.environment.name)

    @property
    def unit(self) -> str:
        """The text of the systemd unit."""
        return self._unit("sonolite.service", self.facts.groups)

    @property
    def kiosk_unit(self) -> str:
        """The text of the systemd unit of the kiosk."""
        groups = [name for name in self.facts.groups if name in KIOSK_GROUPS]
        return self._unit("sonolite-kiosk.service", groups)

    def _unit(self, name: str, groups: Sequence[str]) -> str:
        operates = self.config.view.kiosk_role == "operator"
        words = {
            "@PYTHON@": self.environment.python,
            "@ROOT@": self.request.root,
            "@GROUPS@": " ".join(groups),
            "@TOKEN@": OPERATOR_TOKEN if operates else VIEW_TOKEN,
        }
        text = (resources.files("edge_runtime") / "release" / name).read_text()
        for mark, word in words.items():
            text = text.replace(mark, word)
        return text

    @property
    def key_name(self) -> str:
        """The name of the file with the public key of the signer on the device."""
        assert self.bundle.signature is not None
        return f"{fingerprint(self.bundle.signature.key)}.pem"

    @property
    def sends_key(self) -> bool:
        """Whether the device gets the key of the signer: the first key, or with `trust`."""
        assert self.bundle.signature is not None
        pem = public_pem(self.bundle.signature.key).decode()
        trusted_keys = self.status["trusted"].values()
        return pem not in trusted_keys and (self.request.trust or not trusted_keys)

    @property
    def new_config(self) -> bool:
        """Whether the device's configuration changes."""
        old = self.status["config"]
        return old is None or asdict(_old_config(old)) != asdict(self.config)

    def words(self, action: str, *arguments: str) -> list[str]:
        """The command line of an action of the device's tool."""
        tool = str(PurePosixPath(self.request.root) / TOOL)
        return [self.environment.python, "-I", tool, action, self.request.root, *arguments]

    def sudo(self, *words: str) -> list[str]:
        """A command as root."""
        return list(words) if self.facts.is_root else ["sudo", "-n", *words]


def make_plan(device: SshDevice, request: DeploymentRequest) -> DeploymentPlan:
    """Asks a device for its facts and its status, and changes nothing there.

    Raises BadInput where the bundle, the board or the device cannot be used, and raises as
    `SshDevice.run` does.
    """
    require_root(request.root)
    board = read_board(request.board)
    bundle = open_trusted(request.bundle, read_trusted(trusted_folder()).keys)
    facts = probe_device(device, request.root)
    python, version = choose_python(device.address, board, facts)
    status = EMPTY_STATUS
    if facts.tool is not None:
        tool = None if facts.own else pack_tool()
        status = ask_status(device, python, request.root, tool)
        status["config"] = _read_config(device, request.root)
    if request.kiosk and not facts.systemd:
        raise BadInput(f"{device.address}: --kiosk needs systemd there")
    config = _config(request, status)
    view = bool(config.view.address)
    changes = request.view or {}
    if changes.get("tls") and not view:
        raise BadInput(f"{device.address}: --view-tls needs --view, since there is no view yet")
    if changes.get("kiosk_role") and facts.kiosk is None and not request.kiosk:
        raise BadInput(f"{device.address}: --kiosk-role needs --kiosk, since there is no kiosk yet")
    if changes.get("address") == "" and facts.kiosk is not None and request.kiosk is None:
        raise BadInput(f"{device.address}: its kiosk needs the view; give --no-kiosk, too")
    extras = needed_extras(config)
    environment = gather_wheels(board, facts.machine, python, version, request.wheels, extras)
    needed = 2 * request.bundle.stat().st_size + SPARE_BYTES
    if environment.name not in status["environments"]:
        needed += UNPACKED_FACTOR * sum(wheel.size for wheel in environment.wheels)
    if facts.free < needed:
        free = f"{facts.free // 10**6} MB are free on its disk"
        raise BadInput(f"{device.address}: {free}, {needed // 10**6} are needed")
    return DeploymentPlan(
        request,
        facts,
        status,
        bundle,
        file_sha256(request.bundle),
        environment,
        config,
        pack_tool(),
    )


def needed_extras(config: Config) -> set[str]:
    """The extras of this project without which a part of the configuration fails."""
    extras = {"view"} if config.view.address else set()
    source = scheme_of(config.source)
    suffix = PurePosixPath(config.source).suffix.lower()
    kinds = [SinkUri(sink.uri).kind for sink in config.sink]
    libraries = [SINK_LIBRARIES[kind] for kind in kinds if kind in SINK_LIBRARIES]
    if source is not None and source.library is not None:
        libraries.append(source.library)
    elif suffix in DICOM:
        libraries.append(PYDICOM)
    if config.exam is not None and config.exam.worklist:
        libraries.append(DICOM_OBJECTS)
    return extras | {library.extra for library in libraries if library.extra is not None}


def probe_device(device: SshDevice, root: str) -> DeviceFacts:
    """The facts of a device. Raises BadInput without Python, or for an unexpected answer."""
    source = (resources.files("edge_runtime") / "deploy" / "probe.py").read_bytes()
    try:
        output = device.run(["python3", "-I", "-", root], source)
    except BadInput as error:
        if "not found" in str(error):
            raise BadInput(f"{device.address}: it has no python3; install it there") from error
        raise
    try:
        return read_json(output, DeviceFacts, "facts")
    except BadInput as error:
        first = output.strip().splitlines()[:1]
        raise BadInput(f"{device.address}: does not say what it is, but {first}") from error


def choose_python(address: str, board: Board, facts: DeviceFacts) -> tuple[str, str]:
    """The first suitable Python of the device, and its version.

    Raises BadInput where the machine is not the board, or where its software is too old.
    """
    glibc = facts.libc[1] if facts.libc[0] == "glibc" else None
    why = "it has no python3"
    for python, version in facts.pythons.items():
        if facts.systemd and python.startswith(("/home/", "/root/")):
            why = f"the service sees no home, where {python} lies"
            continue
        unfit = board.unfit(facts.machine, version, glibc)
        if unfit is None:
            return python, version
        why = unfit
    raise BadInput(f"{address}: no {board.name}: {why}")


def ask_status(
    device: SshDevice, python: str, root: str, tool: bytes | None = None
) -> dict[str, Any]:
    """What `release.pyz` says of a device.

    With `tool`, these bytes are run in the place of the file there, which another user can change.
    """
    words = [python, "-I", str(PurePosixPath(root) / TOOL), "status", root]
    if tool is not None:
        words = ["sh", "-c", SENT_TOOL_SCRIPT, "sh", python, root]
    return require_status(device.address, device.read(words, tool or b""))


def require_status(address: str, answer: Any) -> dict[str, Any]:
    """The answer of a device, which is a status. Raises BadInput where it is none."""
    try:
        msgspec.convert(answer, _Status)
    except msgspec.ValidationError as error:
        raise BadInput(f"{address}: answers no status: {error}") from error
    status: dict[str, Any] = answer
    return status


def _read_config(device: SshDevice, root: str) -> str | None:
    """The text of the device's configuration, None without one. It may hold a password."""
    path = str(PurePosixPath(root) / CONFIG)
    return device.run(["sh", "-c", '! test -f "$1" || cat "$1"', "sh", path]) or None


def _config(request: DeploymentRequest, status: dict[str, Any]) -> Config:
    """The new configuration."""
    old = status["config"]
    settings = {} if old is None else asdict(_old_config(old))
    view = settings.get("view", {}) | (request.view or {})
    if request.kiosk and not view.get("address"):
        view["address"] = DEFAULT_ADDRESS
    exam = settings.get("exam")
    if request.exams or (exam is not None and request.exams is None):
        exam = (exam or {}) | (request.retention or {})
    elif request.retention:
        raise BadInput("--keep-days and --keep-gigabytes need --exams")
    else:
        exam = None
    settings |= {"board": request.board, **(request.settings or {}), "view": view, "exam": exam}
    if roi := (request.settings or {}).get("roi"):
        parse_roi(roi)
    if "source" not in settings:
        raise BadInput(
            "--source is missing: the first deployment needs the source of the device, such as 0"
        )
    try:
        return make_config(settings, "the device's settings")
    except Refused as error:
        raise BadInput(str(error)) from error


def _old_config(text: str) -> Config:
    try:
        return parse_config(text, "config.toml on the device")
    except Refused as error:
        raise BadInput(str(error)) from error


def require_root(root: str) -> None:
    """Raises BadInput for a root that systemd or a shell would read differently."""
    path = PurePosixPath(root)
    letters = set(root) - set("/._-")
    if not path.is_absolute() or ".." in path.parts or not all(c.isalnum() for c in letters):
        raise BadInput(f"--root {root}: an absolute path of letters, digits and / . _ - is needed")
    if len(path.parts) < 3:
        raise BadInput(f"--root {root}: a folder of its own is needed, such as {DEFAULT_ROOT}")


def content_sha256(content: bytes) -> str:
    """The sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()
