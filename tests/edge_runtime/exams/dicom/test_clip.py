"""A recording of an exam as a moving DICOM image."""

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

from devices import BadInput
from devices.capture import open_device
from edge_runtime.exams.dicom import clip as module
from edge_runtime.exams.dicom.clip import clip_object
from edge_runtime.exams.dicom.objects import write_objects
from tests.conftest import free_port, refused, sonolite
from tests.edge_runtime.exams.conftest import parts_of
from tests.edge_runtime.exams.dicom.orthanc import Orthanc
from tests.edge_runtime.exams.dicom.test_objects import errors_in


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten frames in colours."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, (64, 48))
    for frame in range(10):
        writer.write(np.full((48, 64, 3), (200, 20 * frame, 10), np.uint8))
    writer.release()
    return path


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """One grey picture of an odd size."""
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((47, 63), 90, np.uint8))
    return path


def test_dciodvfy_finds_no_error(video: Path, grey: Path, exams: Path, tmp_path: Path) -> None:
    exam = parts_of(exams)[0]
    objects = ((path.stem, clip_object(exam, str(path))) for path in (video, grey))
    write_objects(tmp_path / "dicom", objects)
    paths = sorted((tmp_path / "dicom").iterdir())
    assert {path.name: errors_in(path) for path in paths} == {path.name: [] for path in paths}


def test_the_frames_are_those_of_the_recording(video: Path, exams: Path) -> None:
    content = clip_object(parts_of(exams)[0], str(video))
    file = BytesIO()
    content.save_as(file, enforce_file_format=True)
    file.seek(0)
    frames = pydicom.dcmread(file).pixel_array
    assert frames.shape == (10, 48, 64, 3)
    with open_device(str(video)) as device:
        for frame in frames:
            pixels = device.read(10.0).pixels
            seen = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
            assert np.abs(frame[..., ::-1].astype(int) - seen).max() < 8
    assert float(content.FrameTime) == 50.0
    assert content.LossyImageCompression == "01"


def test_a_long_recording_is_cut(video: Path, exams: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CLIP_FRAMES", 4)
    assert clip_object(parts_of(exams)[0], str(video)).NumberOfFrames == 4


def test_the_same_recording_is_the_same_object(video: Path, exams: Path) -> None:
    exam = parts_of(exams)[0]
    assert clip_object(exam, str(video)) == clip_object(exam, str(video))


@pytest.mark.parametrize(
    ("source", "words"),
    [("phantom:", "a recording is needed"), ("nothing.mp4", "nothing.mp4")],
)
def test_what_is_no_recording_is_refused(source: str, words: str, exams: Path) -> None:
    with pytest.raises(BadInput, match=words):
        clip_object(parts_of(exams)[0], source)


def test_a_clip_does_not_wait_for_a_scanner(exams: Path) -> None:
    with pytest.raises(BadInput, match="a recording is needed"):
        clip_object(parts_of(exams)[0], f"dicom-listen:{free_port()}")


def test_frames_of_several_sizes_are_refused(grey: Path, exams: Path) -> None:
    cv2.imwrite(str(grey.with_name("other.png")), np.zeros((40, 40), np.uint8))
    grey.with_name("clip.avi").unlink(missing_ok=True)
    with pytest.raises(BadInput, match="several sizes"):
        clip_object(parts_of(exams)[0], str(grey.parent))


def test_a_pacs_takes_the_clip_in_both_ways(video: Path, exams: Path, pacs: Orthanc) -> None:
    for uri in (pacs.uri, pacs.web):
        done = sonolite("exam", "send", "1", uri, "--folder", exams, "--clip", video)
        assert "sent 5 objects" in done.stderr
    (stored,) = [each for each in pacs.objects() if "NumberOfFrames" in each]
    assert stored == pydicom.dcmread(_file(clip_object(parts_of(exams)[0], str(video))))


def _file(content: pydicom.Dataset) -> BytesIO:
    file = BytesIO()
    content.save_as(file, enforce_file_format=True)
    file.seek(0)
    return file


def test_a_clip_of_an_export_needs_the_objects(exams: Path, tmp_path: Path, video: Path) -> None:
    words = ("--folder", exams, "--out", tmp_path / "out", "--clip", video)
    refused(sonolite("exam", "export", "1", *words), "--clip needs --dicom")
    assert sonolite("exam", "export", "1", *words, "--dicom").code == 0
    assert (tmp_path / "out" / "dicom" / "clip.dcm").exists()
