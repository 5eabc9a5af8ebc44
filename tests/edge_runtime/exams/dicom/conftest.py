"""Exams with pictures, decisions and abstentions, and a PACS."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("highdicom", reason="needs the extra `dicom`")

from edge_runtime.bundle.archive import Bundle
from edge_runtime.exams import recorder as recorder_module
from edge_runtime.exams.recorder import open_exam_recorder
from edge_runtime.exams.store import (
    Identity,
)
from edge_runtime.results.result import NO_NODULE
from tests.conftest import wait_until
from tests.edge_runtime.exams.dicom.orthanc import Orthanc
from tests.edge_runtime.exams.examples import FOUND, NOISE, result

WHO = Identity("PATIENT-4711", "Weiß^Zoë", "A-17")
UNSURE = replace(
    FOUND,
    track=2,
    probability={"benign": 0.2, "malignant": 0.8},
    smoothed={"benign": 0.2, "malignant": 0.8},
)
SURE = replace(
    FOUND,
    probability={"benign": 0.02, "malignant": 0.98},
    smoothed={"benign": 0.02, "malignant": 0.98},
)


def keep_exam(folder: Path, bundle: Bundle, identity: Identity = WHO, frames: int = 120) -> None:
    """An exam of a nodule with a label, of one too close to the threshold, and of a kept still."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder_module, "COMMIT_PAUSE", 0.01)
        with open_exam_recorder(folder, bundle, "phantom:", live=True) as recorder:
            recorder.begin(identity)
            recorder.write(result(0, reason=NO_NODULE), NOISE)
            for frame in range(1, frames):
                nodule = SURE if frame < frames // 2 else UNSURE
                recorder.write(result(frame, nodule), NOISE)
                if frame == 50:
                    recorder.keep_still(result(frame, nodule), NOISE)
                if frame % 30 == 0:
                    wait_until(lambda: not recorder.status().waiting)


@pytest.fixture(scope="session")
def exams(tmp_path_factory: pytest.TempPathFactory, found_bundle: Bundle) -> Path:
    """A folder with one exam."""
    folder = tmp_path_factory.mktemp("kept") / "exams"
    keep_exam(folder, found_bundle)
    return folder


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if shutil.which("Orthanc") is None:
        pytest.skip("Orthanc is not installed (make test-programs)")
    with Orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        yield orthanc


@pytest.fixture
def pacs(orthanc: Orthanc) -> Orthanc:
    """A PACS without an object."""
    orthanc.empty()
    return orthanc
