"""URIs: which device each names, and what is said of those that name none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from devices import BadInput, HardwareMissing
from devices.capture import open_device
from devices.capture.folder import ImageFolder
from devices.capture.phantom import Phantom
from devices.capture.video import Video


def test_a_video_file_opens_as_video(make_video: Callable[..., Path]) -> None:
    assert isinstance(open_device(str(make_video("a.mp4"))), Video)


def test_a_folder_and_an_image_open_as_stills(labelled: Path) -> None:
    folder = labelled / "benign" / "benign00"
    assert isinstance(open_device(str(folder)), ImageFolder)
    with open_device(str(folder / "0.png")) as device:
        assert device.read(1.0).timestamp is None


def test_the_phantom_takes_its_options_from_the_uri() -> None:
    device = open_device("phantom:?seed=3&frames=5&fps=10&width=320&height=240&live=no")
    assert isinstance(device, Phantom)
    assert device.fps == 10
    assert device.read(1.0).pixels.shape == (240, 320, 3)


@pytest.mark.parametrize(
    "uri",
    [
        "phantom:?nodule=square",
        "phantom://[x?nodule=square",
        "phantom:?frames=x",
        "phantom:?colour=1",
        "phantom:?width=1",
        "phantom:?seed=-1",
        "phantom:?frames=0",
        "phantom:?fps=nan",
    ],
)
def test_an_unknown_option_of_the_phantom_is_refused(uri: str) -> None:
    with pytest.raises(BadInput, match="phantom"):
        open_device(uri)


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(BadInput, match=r"v4l2://\.\.\."):
        open_device("v4l2://[x")


def test_what_is_not_there_is_said_to_be_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        open_device(str(tmp_path / "none.mp4"))


@pytest.mark.parametrize("uri", ["", "9" * 20, "none.mp4"])
def test_what_names_nothing_is_said_to_be_nothing(uri: str) -> None:
    with pytest.raises(BadInput, match="no such file"):
        open_device(uri)


def test_a_scheme_without_a_device_is_refused() -> None:
    with pytest.raises(BadInput, match="rtmp"):
        open_device("rtmp://127.0.0.1/stream")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no image"):
        open_device(str(tmp_path))


@pytest.mark.skipif(Path("/dev/video97").exists(), reason="there is such a camera here")
@pytest.mark.parametrize("uri", ["97", "v4l2:///dev/video97"])
def test_a_camera_that_is_not_there_is_missing_hardware(uri: str) -> None:
    with pytest.raises(HardwareMissing, match="not there"):
        open_device(uri)


def test_an_openigtlink_server_is_named_by_its_uri() -> None:
    with pytest.raises(HardwareMissing, match="no OpenIGTLink"):
        open_device("igtl://127.0.0.1:1")
