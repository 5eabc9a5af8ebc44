"""`report.html`: the figures of a run with its pictures, one file that needs nothing else."""

import base64
import io
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

Answers = Mapping[Any, tuple[NDArray[np.int64], NDArray[np.floating]]]

FIGURES = ("accuracy", "majority", "sensitivity", "specificity", "f1", "auroc")

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b2733 }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .3rem .9rem; text-align: right; border-bottom: 1px solid #d6dde4 }}
th:first-child, td:first-child {{ text-align: left }}
.note {{ background: #fff4d6; padding: .5rem 1rem; border-left: 4px solid #d99a00 }}
img {{ max-width: 100% }} pre {{ background: #f3f6f8; padding: 1rem; overflow-x: auto }}
</style></head><body>
<h1>{title}</h1>
<p class="note">Research use only, not for diagnosis.</p>
<p>{about}</p>
<h2>Figures</h2>{metrics}
<p>Decisions at the operating point, a probability of {threshold:.3f}, chosen on the validation
split for a sensitivity of {sensitivity:.2f}. <em>Majority</em> is the accuracy of always naming
the commoner class. The test split was used for nothing but this table.</p>
<h2>Confusion matrix, test</h2>{confusion}
<h2>Pictures</h2><img alt="Learning curves, ROC and probabilities" src="{image}">
<h2>Data</h2>{data}
<p>Split by group: no group stands on two sides. Temperature {temperature:.3f}, kept epoch
{best_epoch}, seed {seed}.</p>
<h2>Recipe</h2><pre>{recipe}</pre>
<h2>Software</h2><pre>{software}</pre>
</body></html>
"""


def write_report(record: Mapping[str, Any], answers: Answers, path: Path) -> None:
    """Writes the page of a run's record; `answers` are the labels and scores of each split."""
    labels = record["recipe"]["task"]["labels"]
    confusion = record["metrics"]["test"]["confusion"]
    counts = record["data"]["counts"]
    page = PAGE.format(
        title=escape(f"{record['recipe_name']} on {record['data']['name']}"),
        about=escape(record["recipe"]["about"]),
        threshold=record["threshold"],
        sensitivity=record["recipe"]["operating_point"]["sensitivity"],
        metrics=_table(
            ["split", "images", *FIGURES],
            [
                [part, str(its["samples"]), *(f"{its[name]:.3f}" for name in FIGURES)]
                for part, its in record["metrics"].items()
            ],
        ),
        confusion=_table(
            ["truth", *(f"called {label}" for label in labels)],
            [
                [labels[0], str(confusion["true_negative"]), str(confusion["false_positive"])],
                [labels[1], str(confusion["false_negative"]), str(confusion["true_positive"])],
            ],
        ),
        image=_pictures(record, answers),
        data=_table(
            ["split", *labels],
            [[part, *(str(its.get(label, 0)) for label in labels)] for part, its in counts.items()],
        ),
        temperature=record["temperature"],
        best_epoch=record["best_epoch"],
        seed=record["seed"],
        recipe=escape(json.dumps(record["recipe"], indent=2)),
        software=escape("\n".join(f"{name} {its}" for name, its in record["software"].items())),
    )
    path.write_text(page, encoding="utf-8")


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table><tr>{cells}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _pictures(record: Mapping[str, Any], answers: Answers) -> str:
    """Learning curves, ROC on each held-out split, and the scores by class, as a data URI."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    learning, roc, scores = figure.subplots(1, 3)
    epochs = [epoch["epoch"] for epoch in record["history"]]
    learning.plot(epochs, [epoch["auroc"] for epoch in record["history"]], label="train")
    learning.plot(
        epochs, [epoch["validation_auroc"] for epoch in record["history"]], label="validation"
    )
    learning.axvline(record["best_epoch"], color="grey", linestyle=":", label="kept")
    learning.set(title="AUROC by epoch", xlabel="epoch", ylabel="AUROC")
    learning.legend()
    for part in ("validation", "test"):
        false_alarms, found, _ = roc_curve(*answers[part])
        roc.plot(false_alarms, found, label=f"{part}, AUROC {record['metrics'][part]['auroc']:.3f}")
    roc.plot([0, 1], [0, 1], color="grey", linestyle=":")
    roc.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity")
    roc.legend()
    truth, probability = answers["test"]
    for value, label in enumerate(record["recipe"]["task"]["labels"]):
        scores.hist(probability[truth == value], bins=20, range=(0, 1), alpha=0.6, label=label)
    scores.axvline(record["threshold"], color="black", linestyle=":", label="operating point")
    positive = record["recipe"]["task"]["labels"][-1]
    scores.set(title="Test images", xlabel=f"probability of {positive}", ylabel="images")
    scores.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
