"""`report.html`: the figures of a run with its pictures, one file that needs nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from train import report_classes
from train.html_page import (
    GREY,
    NEGATIVE,
    POSITIVE,
    STYLE,
    html_page,
    img,
    jpeg,
    new_figure,
    pair,
    plot,
    png,
    table,
    word_table,
)
from train.measurement import Answers, Mistake
from train.metrics import (
    calibration_error,
    chance_calibration_error,
    curves,
    metrics_of,
    reliability,
    roc_band,
    shown_in,
)
from train.report_figures import between, cell, groups, percent, positives
from train.samples import LEAK

HELD_OUT = ("validation", "test")
FEW_GROUPS = 10
"""Below it an interval over groups says little; see `train.metrics`."""
REDRAWN = (
    " Box: all test images again, with boxes drawn smaller or larger than those of the data. Where "
    "sensitivity moves with them, the operating point holds for boxes that are drawn alike."
)


@dataclass(frozen=True)
class Findings:
    """Everything that a report shows."""

    record: Mapping[str, Any]
    """`run.json`."""
    answers: Mapping[Any, Answers]
    """Of the parts `validation` and `test`."""
    mistakes: Sequence[Mistake] = ()
    """On the test split, the worst first."""
    augmented: NDArray[np.uint8] | None = None
    """uint8 ``[h, w]``: pictures of the training split as augmentation changes them."""


def report_page(findings: Findings) -> str:
    """The page as HTML; a section that would be empty is left out."""
    record = findings.record
    with mpl.rc_context(STYLE):
        sections = {
            "In short": _in_short(record),
            "Figures": _figures(record),
            "Ranking": _ranking(findings),
            "Decisions": _decisions(findings),
            "Calibration": _calibration(findings),
            "Subgroups": _subgroups(record),
            "Out of scope": _scope(record),
            "Worst mistakes": _mistakes(findings),
            "Learning": _learning(record),
            "Augmentation": _augmentation(findings.augmented),
            "Data": _data(record),
            "Recipe and software": _making(record),
        }
    title = f"{record['recipe_name']} on {record['data']['name']}"
    return html_page(title, record["recipe"]["about"], sections)


def _in_short(record: Mapping[str, Any]) -> str:
    """The test split in words, and what to beware of."""
    test, labels = record["metrics"]["test"], _labels(record)
    tiles = "".join(
        f'<div class="tile">{metric.title}<b>{metric.text(test[name])}</b>'
        f'<span class="soft">{between(test, name) or "no interval"}</span></div>'
        for name, metric in shown_in("headline", len(labels)).items()
    )
    held_out = record.get("held_out")
    scanners = "" if held_out is None else f" of {held_out} pixels, which was never learnt from,"
    if held_out is not None and held_out.startswith("!"):
        scanners = f" of all sizes but {held_out[1:]} pixels, which alone was learnt from,"
    unseen = "" if record.get("parted") else ", none of which the model had seen"
    words = (
        f"Measured on {test['samples']} test images{scanners} of {groups(test)}{unseen}. "
        + _pairs(test, labels),
        *(
            _decided(test, labels)
            if len(labels) == 2
            else report_classes.decided_words(test, labels)
        ),
        f"Its probabilities lie {test['ece']:.3f} off the shares that were observed, on average "
        "(ECE).",
    )
    return (
        f'<div class="tiles">{tiles}</div>'
        + "".join(f"<p>{escape(line)}</p>" for line in words)
        + '<p class="soft">In brackets: 95 % intervals by bootstrap over groups.</p>'
        + "".join(f'<p class="caution">{escape(line)}</p>' for line in _cautions(record))
    )


def _pairs(test: Mapping[str, Any], labels: Sequence[str]) -> str:
    """The AUROC in words."""
    if len(labels) > 2:
        return (
            "Of an image that is of a class and one that is not, it gives the first the higher "
            f"probability of the class in {percent(test, 'auroc')} of all pairs, in the mean over "
            "the classes."
        )
    negative, positive = labels
    return (
        f"Of an image that is {positive} and one that is {negative}, it gives the {positive} one "
        f"the higher probability in {percent(test, 'auroc')} of all pairs."
    )


def _decided(test: Mapping[str, Any], labels: Sequence[str]) -> tuple[str, ...]:
    """How the test images were decided between two classes, in sentences."""
    negative, positive = labels
    counted = test["confusion"]
    tp, fn = counted["true_positive"], counted["false_negative"]
    tn, fp = counted["true_negative"], counted["false_positive"]
    return (
        f"At its operating point it finds {tp} of {tp + fn} {positive} images, "
        f"{percent(test, 'sensitivity')}, and clears {tn} of {tn + fp} {negative} ones, "
        f"{percent(test, 'specificity')}. It is right in {percent(test, 'accuracy')}; always "
        f"naming the commoner class would be right in {100 * test['majority']:.1f} %.",
        f"Of the {tp + fp} images that it called {positive}, {percent(test, 'ppv')} were; of the "
        f"{tn + fn} that it called {negative}, {percent(test, 'npv')} were. Both shares hold only "
        f"where {positive} is as common as here, {100 * (tp + fn) / test['samples']:.1f} % of the "
        "images.",
    )


def _cautions(record: Mapping[str, Any]) -> Iterator[str]:
    """What makes the figures weaker than they look."""
    test, data = record["metrics"]["test"], record["data"]
    promised = record["recipe"]["operating_point"]["sensitivity"]
    for label, figures in test.get("by_class", {}).items() or [("", test)]:
        _, reached = figures["intervals"].get("sensitivity", (0.0, 1.0))
        if reached < promised:
            of_class = f" of {label}" if label else ""
            yield (
                f"The sensitivity{of_class} of {promised:.2f} for which the operating point was "
                "chosen on validation was not reached on test: the whole interval lies below it."
            )
    if parted := record.get("parted"):
        yield (
            f"{parted} groups had images on both sides of the split, and each was parted by "
            "scanner: if a group is a patient, the figures flatter."
        )
    if not data.get("grouped", True):
        yield (
            "No groups are known, so each image is a group of its own. Images of one patient may "
            "stand on two sides of the split: the figures flatter, the intervals are too narrow."
        )
    elif test["groups"] < FEW_GROUPS:
        yield (
            f"The test split has {groups(test)} only: the intervals say little, and are mostly "
            "too narrow."
        )
    yield (
        "One split of one data set says little of other patients, hospitals and scanners. Models "
        "of this kind fall far on them."
    )


def _figures(record: Mapping[str, Any]) -> str:
    """Every figure of every split, that of test first: it counts."""
    metrics = {part: record["metrics"][part] for part in ("test", "validation", "train")}
    labels = _labels(record)
    registry = metrics_of(len(labels))
    rows = [
        ["images", *(f"{figures['samples']}" for figures in metrics.values())],
        ["groups", *(f"{figures['groups']}" for figures in metrics.values())],
    ]
    rows += [
        [metric.title, *(cell(figures, name) for figures in metrics.values())]
        for name, metric in registry.items()
    ]
    meanings = "".join(
        f"<dt>{escape(metric.title)}</dt><dd>{escape(metric.meaning)}.</dd>"
        for metric in registry.values()
    )
    promised = record["recipe"]["operating_point"]["sensitivity"]
    thresholds = record["thresholds"]
    point = (
        "<p>The network learnt from <em>train</em>. Its best epoch, its temperature and its "
        f"operating point, a probability of {thresholds[labels[-1]]:.3f}, come from "
        f"<em>validation</em>: the point was chosen there for a sensitivity of {promised:.2f} and "
        "then locked. "
        if len(labels) == 2
        else "<p>The network learnt from <em>train</em>. Its best epoch and its temperature come "
        f"from <em>validation</em>. {report_classes.operating_point(thresholds, promised)} "
    )
    by_class = "" if len(labels) == 2 else report_classes.classes_table(metrics["test"])
    return by_class + pair(
        table(["split", *metrics], rows),
        f"{point}<em>Test</em> was used for nothing but this report.</p>"
        "<p>Below each figure, its 95 % interval by bootstrap: groups (patients, cases) are drawn "
        "with replacement, 1,000 times.</p>"
        f"<dl>{meanings}</dl>",
    )


def _ranking(findings: Findings) -> str:
    """ROC and precision over recall, of both held-out parts."""
    metrics, test = findings.record["metrics"], findings.answers["test"]
    if metrics["test"].get("by_class"):
        return report_classes.ranking(test, metrics["test"])
    at = np.linspace(0, 1, 201)
    roc, axes = new_figure(5.4, 4.8)
    band = roc_band(test.labels, test.probability[:, -1], test.groups, at)
    if band is not None:
        axes.fill_between(at, *band, color=POSITIVE, alpha=0.18, lw=0, label="95 % band, test")
    precision_recall, other = new_figure(5.4, 4.8)
    for part, colour in zip(HELD_OUT, (GREY, POSITIVE), strict=True):
        answers = findings.answers[part]
        fpr, sensitivity, precision = curves(answers.labels, answers.probability[:, -1])
        auroc, auprc = metrics[part]["auroc"], metrics[part]["auprc"]
        axes.plot(
            np.append(0, fpr),
            np.append(0, sensitivity),
            color=colour,
            label=f"{part}, {auroc:.3f}",
        )
        other.step(sensitivity, precision, color=colour, where="pre", label=f"{part}, {auprc:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
    figures = metrics["test"]
    operating = {"marker": "o", "ls": "", "color": "black", "label": "operating point, test"}
    axes.plot(1 - figures["specificity"], figures["sensitivity"], **operating)
    axes.set(title="ROC", xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right")
    share = float(np.mean(test.labels))
    other.axhline(share, color=GREY, ls=":", lw=1, label=f"chance, {share:.3f}")
    if figures["ppv"] is not None:
        other.plot(figures["sensitivity"], figures["ppv"], **operating)
    other.set(title="Precision and recall", xlabel="sensitivity", ylabel="PPV", ylim=(0, 1.02))
    other.legend(loc="lower right")
    return pair(
        plot(
            roc,
            f"ROC of validation and test with the operating point; AUROC on test "
            f"{figures['auroc']:.3f}",
            "How many positives are found at each price in false alarms; each point of the band "
            "has an interval of its own.",
        ),
        plot(
            precision_recall,
            f"Precision over recall of validation and test; average precision on test "
            f"{figures['auprc']:.3f}",
            "How many of the images called positive are, as more of the positives are found.",
        ),
    )


def _decisions(findings: Findings) -> str:
    """The scores of each class with the operating point, and the confusion matrix."""
    record, test = findings.record, findings.answers["test"]
    names = _labels(record)
    if matrix := record["metrics"]["test"].get("confusion_matrix"):
        return report_classes.decisions(names, matrix)
    threshold = record["thresholds"][names[-1]]
    figure, panels = new_figure(5.4, 4.4, rows=2)
    for value, (axes, name, colour) in enumerate(
        zip(panels, names, (NEGATIVE, POSITIVE), strict=True)
    ):
        scores = test.probability[:, -1][test.labels == value]
        right = (scores >= threshold) == bool(value)
        axes.hist(
            [scores[right], scores[~right]],
            bins=25,
            range=(0, 1),
            stacked=True,
            color=[colour, "#17212b"],
            label=["right", "wrong"],
        )
        axes.axvline(threshold, color="black", ls="--", lw=1)
        axes.set(title=f"{name} images", ylabel="images", xlim=(0, 1))
        axes.legend()
    panels[-1].set_xlabel(f"probability of {names[1]}; dashed: operating point")
    counted = record["metrics"]["test"]["confusion"]
    rows = (
        (counted["true_negative"], counted["false_positive"]),
        (counted["false_negative"], counted["true_positive"]),
    )
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(
            f'<td class="{"right" if column == line else "wrong"}"><b>{count}</b>'
            f"<small>{100 * count / sum(row):.1f} % of {escape(name)}</small></td>"
            for column, count in enumerate(row)
        )
        + "</tr>"
        for line, (name, row) in enumerate(zip(names, rows, strict=True))
    )
    head = "".join(f'<th scope="col">called {escape(name)}</th>' for name in names)
    return pair(
        plot(
            figure,
            f"Probability of {names[1]} on the test split, for {names[0]} and {names[1]} images",
            "Black is what lies on the wrong side of the operating point.",
        ),
        '<table class="confusion"><caption>Confusion matrix of the test split</caption>'
        f"<tr><th>truth</th>{head}</tr>{lines}</table>",
    )


def _calibration(findings: Findings) -> str:
    """The reliability curve before and after temperature scaling."""
    record, test = findings.record, findings.answers["test"]
    if len(_labels(record)) > 2:
        return report_classes.calibration(test, record["temperature"])
    figure, axes = new_figure(5.4, 4.8)
    axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
    for name, scores, colour, marker in (
        ("before", test.uncalibrated[:, -1], GREY, "s"),
        ("after", test.probability[:, -1], POSITIVE, "o"),
    ):
        curve = np.array(reliability(test.labels, scores))
        error = calibration_error(test.labels, scores)
        label = f"{name} scaling, ECE {error:.3f}"
        axes.plot(curve[:, 0], curve[:, 1], color=colour, marker=marker, ms=4, label=label)
    axes.set(
        title="Reliability, test",
        xlabel=f"mean probability of {_labels(record)[1]}",
        ylabel=f"share that is {_labels(record)[1]}",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.legend(loc="upper left")
    rows = [
        [
            part,
            f"{calibration_error(answers.labels, answers.uncalibrated[:, -1]):.3f}",
            cell(record["metrics"][part], "ece"),
            f"{chance_calibration_error(answers.probability[:, -1]):.3f}",
        ]
        for part, answers in ((part, findings.answers[part]) for part in HELD_OUT)
    ]
    return pair(
        plot(
            figure,
            "Reliability curve of the test split before and after temperature scaling",
            "15 bins of equally many images; on the dotted line a probability means what it says.",
        ),
        table(["ECE", "before", "after", "by chance"], rows)
        + "<p>ECE, the expected calibration error, is how far a bin lies off the dotted line, on "
        "average. To calibrate, the log-odds are divided by a temperature, "
        f"{record['temperature']:.3f}, fitted on validation. <em>By chance</em> is what a model "
        "with perfect probabilities would show "
        "on so many images: an error near it cannot be told from none.</p>",
    )


def _subgroups(record: Mapping[str, Any]) -> str:
    """A forest plot and a table of the test split's subgroups."""
    if not record.get("subgroups"):
        return ""
    labels = _labels(record)
    shown = shown_in("subgroups", len(labels))
    rows = []
    for title, subgroups in record["subgroups"].items():
        rows.append([title])
        for name, metrics in subgroups.items():
            counts = [f"{metrics['samples']}", f"{metrics['groups']}"]
            if len(labels) == 2:
                counts.append(str(positives(metrics)))
            rows.append([name, *counts, *(cell(metrics, figure) for figure in shown)])
    positive = labels[1:] if len(labels) == 2 else ()
    head = [
        *("subgroup", "images", "groups", *positive),
        *(metric.title for metric in shown.values()),
    ]
    return (
        plot(
            _forest(record),
            "AUROC with its interval in each subgroup of the test split",
            f"AUROC by subgroup; the shade is the interval of the whole test split. A subgroup of "
            f"fewer than {FEW_GROUPS} groups, hollow, says little.",
        )
        + table(head, rows)
        + '<p class="soft">A dash: the subgroup has no image of a class that the figure needs.'
        + (REDRAWN if "box" in record["subgroups"] else "")
        + "</p>"
    )


def _forest(record: Mapping[str, Any]) -> Figure:
    """A line for each subgroup, under its title; a subgroup without an area has words instead."""
    lines: list[tuple[str, Mapping[str, Any] | None]] = []
    for title, subgroups in record["subgroups"].items():
        lines += [(title, None), *subgroups.items()]
    whole = record["metrics"]["test"]
    figure, axes = new_figure(9, 0.6 + 0.28 * len(lines))
    axes.axvspan(*whole["intervals"].get("auroc", (whole["auroc"],) * 2), color=GREY, alpha=0.15)
    axes.axvline(whole["auroc"], color=GREY, lw=1)
    for line, (_, metrics) in enumerate(lines):
        if metrics is None:
            continue
        if metrics["auroc"] is None:
            axes.text(whole["auroc"], line, " a class is missing", color=GREY, va="center")
            continue
        few = metrics["groups"] < FEW_GROUPS
        axes.plot(
            metrics["intervals"].get("auroc", [metrics["auroc"]] * 2), [line] * 2, color=POSITIVE
        )
        axes.plot(metrics["auroc"], line, "o", color=POSITIVE, mfc="white" if few else POSITIVE)
    axes.set_yticks(range(len(lines)), [_line(name, metrics) for name, metrics in lines])
    for tick, (_, metrics) in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if metrics is None else "normal")
    axes.tick_params(axis="y", length=0)
    axes.set(xlabel="AUROC", ylim=(len(lines) - 0.5, -0.5))
    axes.set_xlim(right=1.0)
    axes.grid(visible=False, axis="y")
    return figure


def _line(name: str, metrics: Mapping[str, Any] | None) -> str:
    return name if metrics is None else f"{name} ({metrics['samples']} images, {groups(metrics)})"


def _scope(record: Mapping[str, Any]) -> str:
    """How many of the test images the model itself would not judge."""
    withheld = record.get("withheld")
    if withheld is None:
        return ""
    varied = ", as they are and as other scanners may show them together,"
    if record["recipe"].get("augmentation") is None:
        varied = ""
    others = record.get("others") or {}
    shown = "No picture of something else was shown to it."
    if others:
        shown = (
            f"It was fitted with {sum(others.values())} auxiliary pictures of something else: "
            f"{escape(', '.join(others))}."
        )
    return (
        f"<p>{100 * withheld:.1f} % of the test images are out of the model's scope: "
        "they are so unlike the training images that a device gives them no label. Of the "
        f"validation images{varied} the distance alone withholds 1 %, by which the limit was set. "
        f"{shown} How many pictures of "
        "something else lie beyond it, "
        "<code>sonolite evaluate RUN --data DATA --out-of-scope FOLDER</code> tells.</p>"
    )


def _mistakes(findings: Findings) -> str:
    """The worst wrong decisions, each as the network saw it, with its evidence where known."""
    if not findings.mistakes:
        return ""
    names = _labels(findings.record)
    strongest = max(
        (
            float(np.abs(mistake.evidence).max())
            for mistake in findings.mistakes
            if mistake.evidence is not None
        ),
        default=0.0,
    )
    legend = (
        f"Beside each, its evidence: orange speaks for {names[1]}, blue for {names[0]}, in full "
        f"colour at {strongest:.1f} of log-odds."
        if strongest
        else "The model has no evidence map."
    )
    cases = "".join(_case(mistake, names, strongest) for mistake in findings.mistakes)
    return (
        f"<p>The {len(findings.mistakes)} wrong decisions on test of which the model was surest, "
        f"as the network saw them. {escape(legend)}</p>"
        f'<div class="cases">{cases}</div>'
    )


def _case(mistake: Mistake, names: Sequence[str], strongest: float) -> str:
    title = f"{mistake.label}, called {mistake.called}"
    scored = names[1] if len(names) == 2 else mistake.called
    pictures = img(png(mistake.picture), f"{mistake.name}: {title}")
    if mistake.evidence is not None:
        blended = _blend(mistake.picture, mistake.evidence, strongest)
        pictures += img(jpeg(blended), f"The evidence of {mistake.name}")
    return (
        f'<figure class="case"><div>{pictures}</div><figcaption><b>{escape(title)}</b>, '
        f"probability of {escape(scored)} {mistake.score:.3f}<br>{escape(mistake.name)}"
        "</figcaption></figure>"
    )


def _blend(
    picture: NDArray[np.uint8], evidence: NDArray[np.floating], strongest: float
) -> NDArray[np.uint8]:
    """The picture under its evidence, BGR: the stronger, the more colour."""
    side = picture.shape[0]
    spread = cv2.resize(np.asarray(evidence, np.float32), (side, side))
    sign = (spread > 0)[..., np.newaxis]
    colour = np.where(sign, _bgr(POSITIVE), _bgr(NEGATIVE))
    strength = 0.7 * np.minimum(np.abs(spread) / max(strongest, 1e-6), 1)[..., np.newaxis]
    blended: NDArray[np.uint8] = (picture * (1 - strength) + colour * strength).astype(np.uint8)
    return blended


def _bgr(colour: str) -> tuple[int, int, int]:
    return int(colour[5:7], 16), int(colour[3:5], 16), int(colour[1:3], 16)


def _learning(record: Mapping[str, Any]) -> str:
    history = record["history"]
    figure, panels = new_figure(9, 3.4, columns=2)
    for axes, name, title in zip(panels, ("auroc", "loss"), ("AUROC", "loss"), strict=True):
        epochs = [epoch["epoch"] for epoch in history]
        for prefix, colour in (("", GREY), ("validation_", POSITIVE)):
            values = [epoch[prefix + name] for epoch in history]
            label = "validation" if prefix else "train"
            axes.plot(
                epochs, values, color=colour, label=label, marker="." if len(epochs) < 3 else ""
            )
        axes.axvline(record["best_epoch"], color="black", ls="--", lw=1, label="kept")
        axes.set(title=title, xlabel="epoch")
        axes.legend()
    chosen = "the best AUROC on validation" if record["recipe"]["fit"]["patience"] else "the last"
    if record["interrupted"]:
        chosen += "; the user stopped the training before its end"
    seconds = sum(epoch.get("seconds", 0) for epoch in history)
    took = f" They took {seconds / 60:.0f} minutes." if seconds else ""
    if teachers := record.get("teachers"):
        aurocs = ", ".join(f"{teacher['validation_auroc']:.3f}" for teacher in teachers)
        took += (
            f" It learnt the mean answer of {len(teachers)} networks, with {aurocs} on validation:"
            " the loss on train is against that answer, not against the labels."
        )
    elif record["recipe"]["distillation"]:
        took += " It is one of the teachers: the student had not begun."
    return plot(
        figure,
        "AUROC and loss by epoch, on train and validation",
        f"{len(history)} epochs; epoch {record['best_epoch']} is kept, {chosen}.{took}",
    )


def _augmentation(augmented: NDArray[np.uint8] | None) -> str:
    if augmented is None:
        return ""
    source = jpeg(augmented)
    return (
        "<figure>"
        + img(source, "One training picture as augmentation changes it")
        + "<figcaption>One training picture as augmentation changes it, anew in each epoch: each "
        "effect at about its strongest, then all together as they come."
        "</figcaption></figure>"
    )


def _data(record: Mapping[str, Any]) -> str:
    """What was there, what was dropped, and what was found twice."""
    data, names = record["data"], _labels(record)
    counts = [
        [part, *(str(images.get(name, 0)) for name in names), str(sum(images.values()))]
        for part, images in data["counts"].items()
    ]
    page = table(["images", *names, "together"], counts)
    whole = "no group" if not record.get("parted") else "none of those that were not parted"
    page += f"<p>{data['groups']} groups; {whole} stands on two sides of the split.</p>"
    if "boxed" in data:
        boxed, learnt = data["boxed"]["train"], sum(data["counts"]["train"].values())
        page += (
            f"<p>{boxed} of the {learnt} images that were learnt from had a box"
            + (": the network learnt whole pictures." if 2 * boxed <= learnt else ".")
            + "</p>"
        )
    if "duplicates" in data:
        page += (
            f"<p>{data['duplicates']} pairs of images are equal or nearly so; each pair was pulled "
            "into one group.</p>"
        )
    if "dropped" in data:
        dropped = [[reason, str(count)] for reason, count in data["dropped"].items()]
        page += table(["dropped", "images"], dropped) if dropped else "<p>Nothing was dropped.</p>"
        if leaks := data["dropped"].get(LEAK):
            page += (
                "<p>The data's own split had near duplicates on two sides. Dropped from training, "
                f"or from validation where the other tests: {leaks}.</p>"
            )
    return page + word_table(
        {"data, SHA-256": data["sha256"], "split, SHA-256": data["split_sha256"]}
    )


def _making(record: Mapping[str, Any]) -> str:
    made = {"seed": str(record["seed"]), **_flat(record["recipe"])}
    return pair(word_table(made), word_table(_flat(record["software"])))


def _labels(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes; of two the positive one is the last."""
    return tuple(record["recipe"]["task"]["labels"])


def _flat(entries: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested entries as dotted names and words; what is not set is left out."""
    flat: dict[str, str] = {}
    for name, value in entries.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            flat[prefix + name] = ", ".join(map(str, value))
        elif value is not None:
            flat[prefix + name] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return flat
