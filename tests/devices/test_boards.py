"""Boards: the shipped ones read, bad files are refused by name, machines are recognised."""

from pathlib import Path

import pytest

from devices import BadInput
from devices.boards import board_names, detect_board, read_board

PI = (Path(__file__).parents[2] / "devices" / "boards" / "raspberry-pi-5.toml").read_text()


def write_board(folder: Path, text: str, name: str = "raspberry-pi-5") -> str:
    """A board file of one's own."""
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def write_machine(root: Path, model: str = "", usb: tuple[str, ...] = ()) -> Path:
    """A machine's tree with this device-tree model, and these USB devices."""
    if model:
        (root / "proc/device-tree").mkdir(parents=True)
        (root / "proc/device-tree/model").write_text(f"{model}\0")
    for number, ids in enumerate(usb):
        device = root / f"sys/bus/usb/devices/1-{number}"
        device.mkdir(parents=True)
        vendor, product = ids.split(":")
        (device / "idVendor").write_text(f"{vendor}\n")
        (device / "idProduct").write_text(f"{product}\n")
    return root


def test_the_shipped_boards_read() -> None:
    assert board_names() == [
        "coral-dev-board",
        "coral-usb",
        "jetson-orin-nano",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "x86-64",
    ]
    for name in board_names():
        board = read_board(name)
        assert board.name == name
        assert board.backends[-1] == "cpu"  # what every machine has
        assert board.variants[0] == "int8"
        assert set(board.backends) <= {*board.packages, "cpu"}


@pytest.mark.parametrize("name", ["coral-dev-board", "jetson-orin-nano"])
def test_a_system_with_too_old_a_python_says_what_it_needs(name: str) -> None:
    board = read_board(name)
    assert board.note is not None
    assert "too old" in board.note
    assert board.unfit("aarch64", "3.7.3", "2.28") == "its Python is 3.7.3; needed is 3.11 to 3.13"


def test_every_figure_and_every_limit_has_its_source() -> None:
    for name in board_names():
        board = read_board(name)
        assert board.thermal.source
        for latency in board.latency:
            assert "/" in latency.source


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("threads = 4", "threads = 0"), "threads"),
        (("threads = 4", "threads = 4\ntreads = 4"), "treads"),
        (("threads = 4", 'threads = "4"'), "threads"),
        (('["aarch64"]', '["armv7l"]'), "architectures[0]"),
        (('["3.11", "3.13"]', '["3.13", "3.11"]'), "the oldest comes first"),
        (('["3.11", "3.13"]', '["3.11"]'), "python"),
        (('glibc = "2.28"', 'glibc = "new"'), "glibc"),
        (('backends = ["cpu"]', 'backends = ["npu"]'), "backends[0]"),
        (('backends = ["cpu"]', "backends = []"), "backends"),
        (("half = 75", "half = 80"), "must rise"),
        (("hysteresis = 5", "hysteresis = 0"), "thermal.hysteresis"),
        (('format = "YUYV"', 'format = "H264"'), "capture.format"),
        (("v4l-utils", "v4l-utils; reboot"), "packages.cameras[0]"),
        (("/sys/class/hwmon", "/etc"), "sensors.undervoltage[0]"),
        (("milliseconds = 23.5", "milliseconds = 0"), "latency[0].milliseconds"),
        (
            ('source = "github.com/aallan', 'origin = "github.com/aallan'),
            "latency[0].source: is missing",
        ),
        (('name = "raspberry-pi-5"', 'name = "raspberry-pi-6"'), "unlike the name of the file"),
        (("[capture]", "[capture"), "raspberry-pi-5.toml: "),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    assert change[0] in PI
    path = write_board(tmp_path, PI.replace(*change, 1))
    with pytest.raises(BadInput) as refusal:
        read_board(path)
    assert str(refusal.value).startswith(f"board {path}: ")
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_board_of_ones_own_is_a_new_file(tmp_path: Path) -> None:
    path = write_board(tmp_path, PI.replace("raspberry-pi-5", "my-board", 1), "my-board")
    assert read_board(path).name == "my-board"


def test_an_unknown_board_names_those_there_are() -> None:
    with pytest.raises(BadInput, match="no board 'pi'; there are coral-dev-board, coral-usb, "):
        read_board("pi")


@pytest.mark.parametrize(
    ("model", "architecture", "name"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", "aarch64", "raspberry-pi-5"),
        ("Raspberry Pi 4 Model B Rev 1.4", "aarch64", "raspberry-pi-4"),
        ("Raspberry Pi 400 Rev 1.0", "aarch64", "raspberry-pi-4"),
        ("Raspberry Pi Compute Module 4 Rev 1.0", "aarch64", "raspberry-pi-4"),
        ("Freescale i.MX8MQ Phanbell", "aarch64", "coral-dev-board"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "aarch64", "jetson-orin-nano"),
        ("", "x86_64", "x86-64"),
        ("Raspberry Pi 4 Model B Rev 1.4", "armv7l", None),
        ("Raspberry Pi 3 Model B Rev 1.2", "aarch64", None),
        ("", "aarch64", None),
        ("A PC with a device tree", "x86_64", None),
    ],
)
def test_a_machine_is_recognised(
    tmp_path: Path, model: str, architecture: str, name: str | None
) -> None:
    board = detect_board(write_machine(tmp_path, model), architecture)
    assert (board and board.name) == name


@pytest.mark.parametrize("ids", ["1a6e:089a", "18d1:9302"])
@pytest.mark.parametrize(("model", "processor"), [("Raspberry Pi 5", "aarch64"), ("", "x86_64")])
def test_a_coral_stick_makes_any_host_a_coral_board(
    tmp_path: Path, ids: str, model: str, processor: str
) -> None:
    board = detect_board(write_machine(tmp_path, model, ("1d6b:0003", ids)), processor)
    assert board is not None
    assert board.name == "coral-usb"


@pytest.mark.parametrize(
    ("architecture", "python", "glibc", "said"),
    [
        ("aarch64", "3.11.2", "2.36", None),
        ("aarch64", "3.13.0", "2.28", None),
        ("armv7l", "3.11.2", "2.36", "its processor is armv7l, not aarch64"),
        ("aarch64", "3.9.2", "2.31", "its Python is 3.9.2; needed is 3.11 to 3.13"),
        ("aarch64", "3.14.0", "2.41", "its Python is 3.14.0; needed is 3.11 to 3.13"),
        ("aarch64", "3.11.2", "2.27", "its C library is 2.27; needed is glibc 2.28 or newer"),
        ("aarch64", "3.11.2", None, "its C library is not glibc; needed is glibc 2.28 or newer"),
    ],
)
def test_a_machine_that_will_not_do_is_told_why(
    architecture: str, python: str, glibc: str | None, said: str | None
) -> None:
    assert read_board("raspberry-pi-5").unfit(architecture, python, glibc) == said


def test_wheels_of_its_glibc_and_older_are_taken() -> None:
    tags = read_board("raspberry-pi-5").platforms("aarch64")
    assert tags[0] == "manylinux_2_28_aarch64"
    assert tags[-2:] == ("manylinux_2_17_aarch64", "manylinux2014_aarch64")
    assert len(tags) == 13
