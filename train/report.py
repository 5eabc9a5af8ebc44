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
    METRICS,
    calibration_error,
    chance_calibration_error,
    curves,
    reliability,
    roc_band,
    shown_in,
)
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
    test = record["metrics"]["test"]
    negative, positive = _labels(record)
    counted = test["confusion"]
    tp, fn = counted["true_positive"], counted["false_negative"]
    tn, fp = counted["true_negative"], counted["false_positive"]
    tiles = "".join(
        f'<div class="tile">{metric.title}<b>{metric.text(test[name])}</b>'
        f'<span class="soft">{_between(test, name) or "no interval"}</span></div>'
        for name, metric in shown_in("headline").items()
    )
    held_out = record.get("held_out")
    scanners = "" if held_out is None else f" of {held_out} pixels, which was never learnt from,"
    if held_out is not None and held_out.startswith("!"):
        scanners = f" of all sizes but {held_out[1:]} pixels, which alone was learnt from,"
    unseen = "" if record.get("parted") else ", none of which the model had seen"
    words = (
        f"Measured on {test['samples']} test images{scanners} of {_groups(test)}{unseen}. Of "
        f"an image that is {positive} and one that is {negative}, it gives the {positive} one the "
        f"higher probability in {_percent(test, 'auroc')} of all pairs.",
        f"At its operating point it finds {tp} of {tp + fn} {positive} images, "
        f"{_percent(test, 'sensitivity')}, and clears {tn} of {tn + fp} {negative} ones, "
        f"{_percent(test, 'specificity')}. It is right in {_percent(test, 'accuracy')}; always "
        f"naming the commoner class would be right in {100 * test['majority']:.1f} %.",
        f"Of the {tp + fp} images that it called {positive}, {_percent(test, 'ppv')} were; of the "
        f"{tn + fn} that it called {negative}, {_percent(test, 'npv')} were. Both shares hold only "
        f"where {positive} is as common as here, {100 * (tp + fn) / test['samples']:.1f} % of the "
        "images.",
        f"Its probabilities lie {test['ece']:.3f} off the shares that were observed, on average "
        "(ECE).",
    )
    return (
        f'<div class="tiles">{tiles}</div>'
        + "".join(f"<p>{escape(line)}</p>" for line in words)
        + '<p class="soft">In brackets: 95 % intervals by bootstrap over groups.</p>'
        + "".join(f'<p class="caution">{escape(line)}</p>' for line in _cautions(record))
    )


def _cautions(record: Mapping[str, Any]) -> Iterator[str]:
    """What makes the figures weaker than they look."""
    test, data = record["metrics"]["test"], record["data"]
    promised = record["recipe"]["operating_point"]["sensitivity"]
    _, reached = test["intervals"].get("sensitivity", (0.0, 1.0))
    if reached < promised:
        yield (
            f"The sensitivity of {promised:.2f} for which the operating point was chosen on "
            "validation was not reached on test: the whole interval lies below it."
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
            f"The test split has {_groups(test)} only: the intervals say little, and are mostly "
            "too narrow."
        )
    yield (
        "One split of one data set says little of other patients, hospitals and scanners. Models "
        "of this kind fall far on them."
    )


def _figures(record: Mapping[str, Any]) -> str:
    """Every figure of every split, that of test first: it counts."""
    metrics = {part: record["metrics"][part] for part in ("test", "validation", "train")}
    rows = [
        ["images", *(f"{figures['samples']}" for figures in metrics.values())],
        ["groups", *(f"{figures['groups']}" for figures in metrics.values())],
    ]
    rows += [
        [metric.title, *(_cell(figures, name) for figures in metrics.values())]
        for name, metric in METRICS.items()
    ]
    meanings = "".join(
        f"<dt>{escape(metric.title)}</dt><dd>{escape(metric.meaning)}.</dd>"
        for metric in METRICS.values()
    )
    promised = record["recipe"]["operating_point"]["sensitivity"]
    return pair(
        table(["split", *metrics], rows),
        "<p>The network learnt from <em>train</em>. Its best epoch, its temperature and its "
        f"operating point, a probability of {record['threshold']:.3f}, come from "
        f"<em>validation</em>: the point was chosen there for a sensitivity of {promised:.2f} and "
        "then locked. <em>Test</em> was used for nothing but this report.</p>"
        "<p>Below each figure, its 95 % interval by bootstrap: groups (patients, cases) are drawn "
        "with replacement, 1,000 times.</p>"
        f"<dl>{meanings}</dl>",
    )


def _ranking(findings: Findings) -> str:
    """ROC and precision over recall, of both held-out parts."""
    metrics, test = findings.record["metrics"], findings.answers["test"]
    at = np.linspace(0, 1, 201)
    roc, axes = new_figure(5.4, 4.8)
    band = roc_band(test.labels, test.scores, test.groups, at)
    if band is not None:
        axes.fill_between(at, *band, color=POSITIVE, alpha=0.18, lw=0, label="95 % band, test")
    precision_recall, other = new_figure(5.4, 4.8)
    for part, colour in zip(HELD_OUT, (GREY, POSITIVE), strict=True):
        answers = findings.answers[part]
        alarms, sensitivity, precision = curves(answers.labels, answers.scores)
        auroc, auprc = metrics[part]["auroc"], metrics[part]["auprc"]
        axes.plot(
            np.append(0, alarms),
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
    names, threshold = _labels(record), record["threshold"]
    figure, panels = new_figure(5.4, 4.4, rows=2)
    for value, (axes, name, colour) in enumerate(
        zip(panels, names, (NEGATIVE, POSITIVE), strict=True)
    ):
        scores = test.scores[test.labels == value]
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
    figure, axes = new_figure(5.4, 4.8)
    axes.plot([0, 1], [0, 1], color=GREY, ls=":", lw=1)
    for name, scores, colour, marker in (
        ("before", test.uncalibrated, GREY, "s"),
        ("after", test.scores, POSITIVE, "o"),
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
            f"{calibration_error(answers.labels, answers.uncalibrated):.3f}",
            _cell(record["metrics"][part], "ece"),
            f"{chance_calibration_error(answers.scores):.3f}",
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
    _, positive = _labels(record)
    shown = shown_in("subgroups")
    rows = []
    for title, subgroups in record["subgroups"].items():
        rows.append([title])
        for name, metrics in subgroups.items():
            counts = [
                f"{count}" for count in (metrics["samples"], metrics["groups"], _positives(metrics))
            ]
            rows.append([name, *counts, *(_cell(metrics, figure) for figure in shown)])
    head = ["subgroup", "images", "groups", positive, *(metric.title for metric in shown.values())]
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
            axes.text(whole["auroc"], line, " one class only", color=GREY, va="center")
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
    return name if metrics is None else f"{name} ({metrics['samples']} images, {_groups(metrics)})"


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


def _case(mistake: Mistake, names: tuple[str, str], strongest: float) -> str:
    called = names[0] if mistake.label == names[1] else names[1]
    title = f"{mistake.label}, called {called}"
    pictures = img(png(mistake.picture), f"{mistake.name}: {title}")
    if mistake.evidence is not None:
        blended = _blend(mistake.picture, mistake.evidence, strongest)
        pictures += img(jpeg(blended), f"The evidence of {mistake.name}")
    return (
        f'<figure class="case"><div>{pictures}</div><figcaption><b>{escape(title)}</b>, '
        f"probability of {escape(names[1])} {mistake.score:.3f}<br>{escape(mistake.name)}"
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


def _labels(record: Mapping[str, Any]) -> tuple[str, str]:
    """The negative and the positive class."""
    negative, positive = record["recipe"]["task"]["labels"]
    return negative, positive


def _groups(metrics: Mapping[str, Any]) -> str:
    return "1 group" if metrics["groups"] == 1 else f"{metrics['groups']} groups"


def _positives(metrics: Mapping[str, Any]) -> int:
    return int(metrics["confusion"]["true_positive"] + metrics["confusion"]["false_negative"])


def _between(metrics: Mapping[str, Any], name: str) -> str:
    """The interval of a figure, or nothing."""
    if name not in metrics["intervals"]:
        return ""
    low, high = metrics["intervals"][name]
    metric = METRICS[name]
    return f"{metric.text(low)} to {metric.text(high)}"


def _percent(metrics: Mapping[str, Any], name: str) -> str:
    if metrics[name] is None:
        return "an unknown share"
    between = ""
    if name in metrics["intervals"]:
        low, high = metrics["intervals"][name]
        between = f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * metrics[name]:.1f} %{between}"


def _cell(metrics: Mapping[str, Any], name: str) -> str:
    """A figure with its interval under it; a second line stands after a line break."""
    if metrics[name] is None:
        return "–"  # noqa: RUF001
    return f"{METRICS[name].text(metrics[name])}\n{_between(metrics, name)}".strip()


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
