"""The figures of a run as a report prints them, from the entries of `run.json`."""

from collections.abc import Mapping
from typing import Any

from train.metrics import METRICS


def groups(metrics: Mapping[str, Any]) -> str:
    """How many groups there are, in words."""
    return "1 group" if metrics["groups"] == 1 else f"{metrics['groups']} groups"


def positives(metrics: Mapping[str, Any]) -> int:
    """How many images are of the positive class."""
    return int(metrics["confusion"]["true_positive"] + metrics["confusion"]["false_negative"])


def between(metrics: Mapping[str, Any], name: str) -> str:
    """The interval of a figure, or nothing."""
    if name not in metrics["intervals"]:
        return ""
    low, high = metrics["intervals"][name]
    metric = METRICS[name]
    return f"{metric.text(low)} to {metric.text(high)}"


def percent(metrics: Mapping[str, Any], name: str) -> str:
    """A share in per cent, with its interval in brackets."""
    if metrics[name] is None:
        return "an unknown share"
    between = ""
    if name in metrics["intervals"]:
        low, high = metrics["intervals"][name]
        between = f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * metrics[name]:.1f} %{between}"


def cell(metrics: Mapping[str, Any], name: str) -> str:
    """A figure with its interval under it; a second line stands after a line break."""
    if metrics[name] is None:
        return "–"  # noqa: RUF001
    return f"{METRICS[name].text(metrics[name])}\n{between(metrics, name)}".strip()
