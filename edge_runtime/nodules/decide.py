"""From smoothed probabilities to a label, or to the reason why there is none."""

from collections.abc import Mapping

from edge_runtime.bundle.manifest import ClassifierStage

TOO_CLOSE = "too close to the threshold"
OUT_OF_SCOPE = "unlike the pictures that the model learnt from"
BELOW_THRESHOLD = "no label reaches its threshold"


def decide(smoothed: Mapping[str, float], stage: ClassifierStage) -> tuple[str | None, str | None]:
    """Returns a label and no reason, or no label and the reason why.

    With two labels the positive label is given from its threshold on, and the other label below it.
    With more labels it is the most probable label of those that reach their thresholds. There is no
    label where its probability is closer to the threshold than the margin.
    """
    thresholds, margin = stage.operating_point.thresholds, stage.decision.margin
    if stage.is_binary:
        smoothed_positive = smoothed[stage.positive]
        distance = smoothed_positive - thresholds[stage.positive]
        if abs(distance) < margin:
            return None, TOO_CLOSE
        return (stage.positive if distance >= 0 else stage.labels[0]), None
    reached = [label for label in stage.labels if smoothed[label] >= thresholds[label]]
    if not reached:
        return None, BELOW_THRESHOLD
    label = max(reached, key=smoothed.__getitem__)
    if smoothed[label] - thresholds[label] < margin:
        return None, TOO_CLOSE
    return label, None
