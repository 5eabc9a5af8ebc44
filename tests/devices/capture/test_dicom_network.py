"""What pydicom and pynetdicom stumble over stays unsaid: it may name a patient."""

import logging
import warnings

import pytest

pytest.importorskip("pynetdicom", reason="needs pynetdicom, of the extra `dicom`")
from pydicom import Dataset

from devices.capture.dicom_network import keep_silent

BROKEN = "an identifier that names Wang^Xiao and is far longer than the sixty-four letters allowed"


def test_neither_a_warning_nor_a_log_tells_what_was_broken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Dataset().SOPInstanceUID = BROKEN
        assert told
        keep_silent()
        told.clear()
        caplog.clear()  # pydicom logs what it warns of
        Dataset().SOPInstanceUID = BROKEN
        for name in ("pydicom", "pynetdicom"):
            logging.getLogger(name).critical(BROKEN)
    assert not told
    assert "Wang" not in caplog.text
