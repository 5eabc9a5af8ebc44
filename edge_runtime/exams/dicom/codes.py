"""The codes of a report: those of the standard (DICOM PS3.16), and our own where it has none."""

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept

from edge_runtime.exams.dicom.header import MAX_LONG
from edge_runtime.exams.own_codes import own_label, own_probability, own_reason, own_threshold

OWN_SCHEME = "99SONOLITE"
"""The designator of our own codes; private ones begin with 99 (PS3.16, 8)."""


def _standard(value: str, scheme: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, scheme, meaning)


def own_code(value: str, meaning: str) -> CodedConcept:
    """A code of our own scheme; a long meaning is cut."""
    return CodedConcept(value, OWN_SCHEME, meaning[:MAX_LONG])


REPORT_TITLE = _standard("126000", "DCM", "Imaging Measurement Report")
PROCEDURE = _standard("16310003", "SCT", "Diagnostic ultrasonography")
NODULE = _standard("27925004", "SCT", "Nodule")
CLASSIFICATION = _standard("278201002", "SCT", "Classification")
ALGORITHM_FAMILY = _standard("123110", "DCM", "Artificial Intelligence")
COMMENT = _standard("121106", "DCM", "Comment")
DEVICE = _standard("121007", "DCM", "Device")
ENGLISH = _standard("en", "RFC5646", "English")
MODALITY = _standard("121139", "DCM", "Modality")
ULTRASOUND = _standard("US", "DCM", "Ultrasound")
NO_UNIT = _standard("1", "UCUM", "no units")

NOTICE_NAME = own_code("NOTICE", "Notice")
NOT_ASSESSABLE = own_code("NOTASSESSABLE", "Not assessable")
REASON_NAME = own_code("REASON", "Reason why it is not assessable")
OWN_CODES = CodingSchemeIdentificationItem(
    OWN_SCHEME, name="Codes of sonolite", responsible_organization="sonolite"
)
"""Tells a reader of an object whose scheme it is (PS3.3, C.12.1)."""


def reason_code(reason: str) -> CodedConcept:
    """The code of a reason; one that is not listed keeps the words as the meaning."""
    return own_code(*own_reason(reason))


def label_code(label: str) -> CodedConcept:
    """What a label says: that the pictures resemble those which the model learnt it from."""
    return own_code(*own_label(label))


def probability_name(label: str) -> CodedConcept:
    """The name of the probability of a label."""
    return own_code(*own_probability(label))


def threshold_name(label: str) -> CodedConcept:
    """The name of the threshold of a label."""
    return own_code(*own_threshold(label))
