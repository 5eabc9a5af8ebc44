"""The codes of a report: those of the standard (DICOM PS3.16), and our own where it has none.

No code says that a nodule is benign or malignant: a label of a classifier is no diagnosis.
"""

import hashlib

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept

from edge_runtime.nodules.decide import BELOW_THRESHOLD, OUT_OF_SCOPE, TOO_CLOSE
from edge_runtime.nodules.pooling import NOT_ENOUGH, UNSETTLED
from edge_runtime.results.result import NO_NODULE

OWN_SCHEME = "99SONOLITE"
"""The designator of our own codes; private ones begin with 99 (PS3.16, 8)."""
MAX_CODE, MAX_MEANING = 16, 64
"""Letters of a code value (SH) and of the meaning of a code (LO); see PS3.5, 6.2."""


def _standard(value: str, scheme: str, meaning: str) -> CodedConcept:
    return CodedConcept(value, scheme, meaning)


def own_code(value: str, meaning: str) -> CodedConcept:
    """A code of our own scheme; a long meaning is cut."""
    return CodedConcept(value, OWN_SCHEME, meaning[:MAX_MEANING])


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
REASON_CODES = {
    TOO_CLOSE: "TOOCLOSE",
    OUT_OF_SCOPE: "OUTOFSCOPE",
    BELOW_THRESHOLD: "BELOWTHRESHOLD",
    NOT_ENOUGH: "NOTENOUGH",
    UNSETTLED: "UNSETTLED",
    NO_NODULE: "NONODULE",
}
"""The codes of the reasons why a nodule, or a whole exam, has no label."""
OWN_CODES = CodingSchemeIdentificationItem(
    OWN_SCHEME, name="Codes of sonolite", responsible_organization="sonolite"
)
"""Tells a reader of an object whose scheme it is (PS3.3, C.12.1)."""


def reason_code(reason: str) -> CodedConcept:
    """The code of a reason; one that is not listed keeps the words as the meaning."""
    return own_code(REASON_CODES.get(reason, "OTHER"), reason)


def label_code(label: str) -> CodedConcept:
    """What a label says: that the pictures resemble those which the model learnt it from."""
    return own_code(_value("L", label), f"Resembles pictures labelled {label}")


def probability_name(label: str) -> CodedConcept:
    """The name of the probability of a label."""
    return own_code(_value("P", label), f"Probability of the label {label}")


def threshold_name(label: str) -> CodedConcept:
    """The name of the threshold of a label."""
    return own_code(_value("T", label), f"Threshold of the label {label}")


def _value(kind: str, label: str) -> str:
    """The code value of a label: the label itself, or a digest where it does not fit."""
    value = f"{kind}-{label}"
    if len(value) <= MAX_CODE and label.isascii() and label.replace("_", "").isalnum():
        return value
    return f"{kind}-{hashlib.sha256(label.encode()).hexdigest()[:10]}"
