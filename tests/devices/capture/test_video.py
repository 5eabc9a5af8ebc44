"""Damaged and odd videos."""

import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir, suppress
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from devices import BadInput, EndOfRecording
from devices.capture import open_device
from devices.capture.phantom import Phantom
from devices.capture.promised import promised_frames
from devices.capture.video import Video
from tests.conftest import CASES
from tests.devices.capture.dicom_files import write_dicom


def read_all(path: Path) -> None:
    with open_device(str(path)) as device:
        while True:
            device.read(1.0)


def times(path: Path) -> list[float]:
    """Of every frame until the ordinary end."""
    seconds: list[float] = []
    with open_device(str(path)) as device, suppress(EndOfRecording):
        while True:
            frame = device.read(1.0)
            assert frame.timestamp is not None
            assert frame.name == path.name
            seconds.append(frame.timestamp)
    return seconds


def test_a_video_larger_than_any_screen_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    """A decoder holds several pictures: a small file would take a gigabyte."""
    path = tmp_path / "large.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (4200, 4000))
    writer.write(np.zeros((4000, 4200, 3), np.uint8))
    writer.release()
    assert path.stat().st_size < 1 << 20
    with pytest.raises(BadInput, match="4200 x 4000 pixels are too many; at most 16,777,216"):
        Video(path)


SCREENS = [Phantom(width=320, height=240).render(index) for index in range(8)]


def write_video(
    path: Path,
    stamps: Iterable[float],
    codec: str = "mpeg4",
    sound: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:
    """A picture at each of `stamps`, in seconds, and silence of `sound` seconds."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=200)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        voice = container.add_stream("aac", rate=8000) if sound else None
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(SCREENS[number % 8], format="bgr24")
            frame.pts, frame.time_base = round(1000 * stamp), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if voice is not None:
            assert isinstance(voice, av.AudioStream)
            for start in range(0, int(sound * 8000), 1024):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate, silence.pts = 8000, start
                container.mux(voice.encode(silence))
            container.mux(voice.encode(None))
    return path


EVEN = [index / 25 for index in range(40)]
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov"}


@pytest.mark.parametrize(
    ("stamps", "sound", "options"),
    [
        ([index / 500 for index in range(40)], 0.0, {}),
        ([index / 241 for index in range(40)], 0.0, {}),
        ([*EVEN[:39], 6.0, 10.0], 0.0, {}),
        ([index**1.5 / 20 for index in range(40)], 0.0, {}),
        (EVEN, 5.0, {}),
        (EVEN, 0.0, FRAGMENTED),
        (EVEN, 5.0, FRAGMENTED),
    ],
    ids=["500", "241", "long last", "variable", "sound", "fragmented", "fragmented with sound"],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_duration_is_no_proof_of_damage(
    tmp_path: Path, stamps: list[float], sound: float, options: dict[str, str], suffix: str
) -> None:
    options = options if suffix != ".mkv" else {}
    path = write_video(tmp_path / f"a{suffix}", stamps, sound=sound, options=options)
    assert len(times(path)) == len(stamps)


@pytest.mark.parametrize("options", [{}, FRAGMENTED, {"movflags": "faststart"}])
def test_frames_that_the_container_names_and_that_lack_are_noticed(
    tmp_path: Path, options: dict[str, str]
) -> None:
    path = write_video(tmp_path / "a.mp4", EVEN, options=options | {"video_track_timescale": "600"})
    content = path.read_bytes()
    assert promised_frames(path) == 40
    start = content.index(b"mdat") + 4
    if options.get("movflags") == "faststart":
        path.write_bytes(content[: start + (len(content) - start) // 2])
    else:
        end = content.rindex(b"moov") if not options else len(content)
        half = start + (end - start) // 2
        zeros = bytes(end - 4 - half)
        path.write_bytes(content[:half] + zeros + content[end - 4 :])
    with pytest.raises(BadInput, match=r"truncated|damaged"):
        read_all(path)


def test_an_avi_promises_its_frames_but_not_those_it_repeats(
    make_video: Callable[..., Path],
) -> None:
    path = make_video("a.avi", frames=12)
    assert promised_frames(path) == 12
    content = bytearray(path.read_bytes())
    index = content.rindex(b"idx1") + 8
    content[index + 12 : index + 16] = bytes(4)
    path.write_bytes(content)
    assert promised_frames(path) == 11


@given(content=st.binary(max_size=200), kind=st.sampled_from(["mp4", "avi"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_makes_no_sense_promises_nothing_and_ends(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    head = b"\0\0\0\x10ftypisom\0\0\0\0" if kind == "mp4" else b"RIFF\0\0\0\0AVI "
    (tmp_path / "a").write_bytes(head + content)
    promised_frames(tmp_path / "a")


@pytest.mark.skipif(not CASES.is_dir(), reason="the real cases are not here")
@pytest.mark.parametrize(("name", "frames"), [("fps241", 40), ("vfr_lastlong", 40), ("av1", 12)])
def test_the_cases_are_read_whole(name: str, frames: int) -> None:
    assert len(times(CASES / "videos" / f"{name}.mp4")) == frames


@pytest.fixture
def av1(tmp_path: Path) -> Path:
    """A video of a codec that OpenCV does not decode.

    A process of its own writes it. The encoder gives the thread that runs it, and so all that the
    thread starts later, the highest real-time priority: other processes would get no time.
    """
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("this PyAV encodes no AV1")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as other:
        path = other.submit(write_video, tmp_path / "a.mp4", EVEN[:6], "libsvtav1").result()
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    return path


def test_what_opencv_does_not_decode_is_read_with_pyav(av1: Path) -> None:
    assert times(av1) == pytest.approx(EVEN[:6], abs=2e-3)


def test_what_a_video_says_of_itself_need_not_be_utf8(av1: Path) -> None:
    content = av1.read_bytes()
    assert b"Lavf" in content
    av1.write_bytes(content.replace(b"Lavf", b"\xd7avf"))
    assert times(av1) == pytest.approx(EVEN[:6], abs=2e-3)


def test_without_pyav_the_cure_is_one_line(av1: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        BadInput, match=r"this (?i:av01) video; PyAV may: pip install 'sonolite\[stream"
    ):
        read_all(av1)


NAMES = st.text(
    st.one_of(
        st.sampled_from("%d03-:[]()|;,?#&'\"\\$*~ =@\u202f\n"),
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"], max_codepoint=0x2FFF),
    ),
    min_size=1,
    max_size=30,
).filter(lambda name: len(name.encode()) < 200)


@given(name=NAMES, suffix=st.sampled_from([".mp4", ".png", ".dcm", ".tif", ""]))
@example(name="img_%03d", suffix=".png")
@example(name="concat:a|b", suffix=".mp4")
@example(name="http:x", suffix=".mp4")
@example(name="phantom:?frames=1", suffix="")
@example(name="igtl:x", suffix=".png")
@example(name="-x", suffix=".mp4")
@example(name="file:x", suffix="")
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
def test_any_name_that_the_system_allows_is_opened_as_a_file(
    recordings: dict[str, bytes], tmp_path: Path, name: str, suffix: str
) -> None:
    """From the folder in which it lies, as a person would write it."""
    if name in (".", "..") or (name + suffix).isdecimal():
        return
    with chdir(tmp_path):
        for content in recordings.values():
            path = Path(name + suffix)
            path.write_bytes(content)
            with open_device(name + suffix) as device:
                frame = device.read(1.0)
            assert frame.pixels.shape[:2] == (240, 320)
            assert frame.name == path.name
            path.unlink()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A video, an image and a DICOM file, to be stored under names of any kind."""
    folder = tmp_path_factory.mktemp("recordings")
    write_video(folder / "a.mp4", EVEN[:2])
    cv2.imwrite(str(folder / "a.png"), SCREENS[0])
    write_dicom(folder / "a.dcm", SCREENS[0])
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


def test_a_video_cut_before_its_index_is_refused(make_video: Callable[..., Path]) -> None:
    path = make_video("cut.mp4")
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(BadInput, match="truncated"):
        read_all(path)


def test_a_video_whose_index_promises_more_frames_is_refused(
    make_video: Callable[..., Path],
) -> None:
    path = make_video("cut.mp4", frames=40)
    content = bytearray(path.read_bytes())
    index = content.rindex(b"moov") - 4
    start = len(content) // 3
    content[start:index] = bytes(index - start)  # as a half-copied file leaves it
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"truncated or damaged|without a single frame"):
        read_all(path)


def test_a_cut_avi_is_noticed_at_its_end(make_video: Callable[..., Path]) -> None:
    path = make_video("cut.avi", frames=40)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=r"truncated or damaged: \d+ of 40"):
        read_all(path)


@pytest.mark.parametrize("name", ["whole.mp4", "whole.avi"])
def test_a_whole_video_ends_as_it_should(make_video: Callable[..., Path], name: str) -> None:
    with pytest.raises(EndOfRecording):
        read_all(make_video(name, frames=40))


@pytest.mark.parametrize("size", [(320, 240), (1280, 720)])
def test_the_pixels_are_opencvs_however_many_threads_decode(
    make_video: Callable[..., Path], size: tuple[int, int]
) -> None:
    path = make_video("sweep.mp4", 12, *size)
    plain = cv2.VideoCapture(str(path))
    with Video(path) as video:
        for _ in range(12):
            np.testing.assert_array_equal(video.read(1).pixels, plain.read()[1])


def test_text_with_the_name_of_a_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("this is no video")
    with pytest.raises(BadInput, match="not a video"):
        read_all(path)


def test_a_video_of_specks_is_refused(make_video: Callable[..., Path]) -> None:
    path = make_video("speck.avi", width=2, height=2)
    with pytest.raises(BadInput, match="2 x 2 pixels are too few"):
        read_all(path)


def matroska(path: Path, frames: int = 200) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (320, 240))
    noise = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(noise.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize("change", ["cut before", "cut while", "overwritten while"])
def test_a_matroska_that_is_not_whole_is_told(tmp_path: Path, change: str) -> None:
    path = matroska(tmp_path / "a.mkv")
    size = path.stat().st_size
    if change == "cut before":
        os.truncate(path, size // 2)

    def read_all() -> None:
        with open_device(str(path)) as device:
            for index in range(1000):
                if index == 5 and change == "cut while":
                    os.truncate(path, size // 4)
                if index == 5 and change == "overwritten while":
                    with path.open("rb+") as file:
                        file.seek(size // 4)
                        file.write(bytes(size - size // 4))
                device.read(1.0)

    with pytest.raises(BadInput, match=r"truncated|changed while"):
        read_all()


def test_a_whole_matroska_ends_as_it_should(tmp_path: Path) -> None:
    with open_device(str(matroska(tmp_path / "a.mkv", 20))) as device:
        frames = 0
        with suppress(EndOfRecording):
            while device.read(1.0):
                frames += 1
    assert frames == 20
