"""The project's own codes, for where the standards have none: the same in DICOM and in FHIR.

No code says that a nodule is benign or malignant: a label of a classifier is no diagnosis.
"""

import hashlib
from typing import NamedTuple

from edge_runtime.nodules.decide import BELOW_THRESHOLD, OUT_OF_SCOPE, TOO_CLOSE
from edge_runtime.nodules.pooling import NOT_ENOUGH, UNSETTLED
from edge_runtime.results.result import NO_NODULE

MAX_CODE = 16
"""Letters of a code value in DICOM (SH; see PS3.5, 6.2)."""
REASON_CODES = {
    TOO_CLOSE: "TOOCLOSE",
    OUT_OF_SCOPE: "OUTOFSCOPE",
    BELOW_THRESHOLD: "BELOWTHRESHOLD",
    NOT_ENOUGH: "NOTENOUGH",
    UNSETTLED: "UNSETTLED",
    NO_NODULE: "NONODULE",
}
"""The codes of the reasons why a nodule, or a whole exam, has no label."""


class OwnCode(NamedTuple):
    """A code, and the words for people."""

    value: str
    meaning: str


def own_reason(reason: str) -> OwnCode:
    """The code of a reason; one that is not listed keeps the words as the meaning."""
    return OwnCode(REASON_CODES.get(reason, "OTHER"), reason)


def own_label(label: str) -> OwnCode:
    """What a label says: that the pictures resemble those which the model learnt it from."""
    return OwnCode(_value("L", label), f"Resembles pictures labelled {label}")


def own_probability(label: str) -> OwnCode:
    """The name of the probability of a label."""
    return OwnCode(_value("P", label), f"Probability of the label {label}")


def own_range(label: str) -> OwnCode:
    """The name of the range in which the probability would lie with more views."""
    return OwnCode(_value("R", label), f"Range of the probability of the label {label}")


def own_threshold(label: str) -> OwnCode:
    """The name of the threshold of a label."""
    return OwnCode(_value("T", label), f"Threshold of the label {label}")


def _value(kind: str, label: str) -> str:
    """The code value of a label: the label itself, or a digest where it does not fit."""
    value = f"{kind}-{label}"
    if len(value) <= MAX_CODE and label.isascii() and label.replace("_", "").isalnum():
        return value
    return f"{kind}-{hashlib.sha256(label.encode()).hexdigest()[:10]}"
