"""Whom an object shows: identifiers are taken whole or not at all."""

import warnings

import pytest
from pydicom import Dataset

from devices.capture.dicom_identity import MAX_DICOM_TEXT, DicomIdentity, identity_of

LONG = "1.2." + "3" * (MAX_DICOM_TEXT - 4)


def dataset(**attributes: str) -> Dataset:
    """Values as they come over the network, which are not checked."""
    made = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in attributes.items():
            setattr(made, keyword, value)
    return made


@pytest.mark.parametrize(
    ("keyword", "part"),
    [("StudyInstanceUID", "study"), ("PatientID", "patient_id"), ("AccessionNumber", "accession")],
)
def test_an_identifier_that_is_too_long_is_none(keyword: str, part: str) -> None:
    assert identity_of(dataset(**{keyword: LONG})) == DicomIdentity(**{part: LONG})
    assert identity_of(dataset(**{keyword: LONG + "3"})) == DicomIdentity()


def test_an_identifier_with_a_backslash_is_as_the_object_has_it() -> None:
    assert identity_of(dataset(PatientID="A\\B")) == DicomIdentity("A\\B")


def test_a_name_that_is_too_long_is_cut() -> None:
    assert identity_of(dataset(PatientName="D" * 70)).name == "D" * MAX_DICOM_TEXT
