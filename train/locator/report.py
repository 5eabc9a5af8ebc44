"""`report.html` of a locator: figures, curves, clips over time, and the worst mistakes."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.policies import TrackingPolicy
from edge_runtime.models.boxes import pairwise_iou
from train.html_page import html_page, img, jpeg, new_figure, pair, plot, table, word_table
from train.locator.dataset import LocatorPicture
from train.locator.evaluation import Judged, LocatorEvaluation
from train.locator.measurement import Clip, clips_of, follow
from train.locator.metrics import MEETS, ClipFigures, Figure, Scored, match
from train.locator.run import LocatorRecord
from train.samples import PARTS

SHOWN = 12
"""Of each kind of mistake."""
CELL = 160
"""Pixels of a picture among the mistakes."""
TRUTH, FOUND = (190, 200, 60), (60, 170, 255)  # blue, green, red
STRIP = 10
"""Frames of a filmstrip."""


def locator_page(
    record: LocatorRecord, pictures: Sequence[LocatorPicture], found: Sequence[Scored]
) -> str:
    """The page of a run; `pictures` are those of the test part, with the detections in each."""
    return html_page(
        f"Locator: {record.recipe_name}",
        f"{record.recipe.about} Research use only, not for diagnosis.",
        {
            "Figures": _figures({part: record.metrics[part] for part in PARTS[1:]}),
            "Clips": _clips({str(part): figures for part, figures in record.clips.items()}),
            **_looked_at(pictures, found, record.tracking),
            "Data": table(
                ("part", "pictures", "boxes", "empty", "groups"),
                [(part, *map(str, record.counts[part].values())) for part in PARTS],
            )
            + word_table({f"dropped: {why}": str(many) for why, many in record.dropped.items()}),
            "Learning": _learning(record),
        },
    )


def evaluation_page(
    title: str, record: LocatorRecord, evaluation: LocatorEvaluation, judged: Judged
) -> str:
    """The page of an evaluation on other data."""
    clips = {} if evaluation.clips is None else {"": evaluation.clips}
    counts = (evaluation.pictures, evaluation.boxes, evaluation.empty)
    return html_page(
        title,
        f"Locator {record.recipe_name} on other data. Research use only, not for diagnosis.",
        {
            "Figures": _figures({"": evaluation.metrics}),
            "Clips": _clips(clips),
            **_looked_at(judged.pictures, judged.found, record.tracking),
            "Data": table(("pictures", "boxes", "empty"), [tuple(map(str, counts))])
            + word_table(
                {f"dropped: {why}": str(many) for why, many in evaluation.dropped.items()}
            ),
        },
    )


def _looked_at(
    pictures: Sequence[LocatorPicture], found: Sequence[Scored], policy: TrackingPolicy
) -> dict[str, str]:
    """The sections that show pictures and curves."""
    return {
        "Curves": _curves(pictures, found),
        "Filmstrips": "".join(_filmstrip(clip, policy) for clip in clips_of(pictures, found)),
        "Mistakes": _mistakes(pictures, found, policy.still_score),
    }


def _figures(measured: Mapping[str, Mapping[str, Figure]]) -> str:
    names = list(dict.fromkeys(name for figures in measured.values() for name in figures))
    rows = [(name, *(_cell(figures.get(name)) for figures in measured.values())) for name in names]
    return table(("figure", *measured), rows)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    return f"{figure.value:.3f}\n{figure.low:.3f}…{figure.high:.3f}"


def _curves(pictures: Sequence[LocatorPicture], found: Sequence[Scored]) -> str:
    matched = match([picture.square.boxes for picture in pictures], found)
    order = np.argsort(-matched.scores, kind="stable")
    right = matched.right[order, 0]
    hits = np.cumsum(right)
    recall = hits / max(1, int(matched.boxes.sum()))
    precision = hits / np.arange(1, len(hits) + 1)
    false = np.cumsum(~right) / len(pictures)
    drawn = []
    for x, y, names in (
        (recall, precision, ("recall", "precision", "Precision over recall")),
        (false, recall, ("false boxes a picture", "sensitivity", "FROC")),
    ):
        figure, axes = new_figure(5, 4)
        axes.plot(x, y)
        axes.set(xlabel=names[0], ylabel=names[1], title=names[2], ylim=(0, 1))
        if names[2] == "FROC":
            axes.set_xlim(0, 2)
        drawn.append(plot(figure, names[2], f"{names[2]} on the test pictures, at IoU 0.5."))
    return pair(*drawn)


def _clips(measured: Mapping[str, ClipFigures]) -> str:
    rows = []
    for part, figures in measured.items():
        rows.append(
            (
                part,
                f"{figures.marked} of {figures.frames}",
                *(
                    "-" if share is None else f"{share:.3f}"
                    for share in (figures.found, figures.false, figures.false_far)
                ),
                "-" if figures.delay is None else f"{figures.delay:.2f} s",
                f"{figures.false_tracks:.1f}",
                "-" if figures.iou is None else f"{figures.iou:.2f}",
            )
        )
    head = (
        "part",
        "frames with a nodule",
        f"of these with a box at IoU ≥ {MEETS}",
        "empty frames with a box",
        "the same, far from a nodule",
        "first box after",
        "false tracks a minute",
        "IoU",
    )
    return table(head, rows) if rows else ""


def _filmstrip(clip: Clip, policy: TrackingPolicy) -> str:
    """Some frames of a clip with truth and boxes, and the best score over time."""
    frames = follow(clip, policy)
    name = clip.pictures[0].marked.path.name
    chosen = np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int)
    cells = []
    for place in chosen:
        picture = clip.pictures[place]
        left, top, longer, _ = picture.window
        shift = np.array([-left, -top] * 2)
        cells.append(
            _draw(
                picture.square.pixels,
                (frames[place].truth + shift) / longer,
                (frames[place].shown + shift) / longer,
            )
        )
    figure, axes = new_figure(10, 2)
    at = [frame.at for frame in frames]
    scores = [float(scored[0, 4]) if len(scored) else 0.0 for scored in clip.found]
    axes.plot(at, scores, label="best score")
    axes.fill_between(at, 0, [len(frame.truth) > 0 for frame in frames], alpha=0.2, label="nodule")
    axes.fill_between(
        at, -0.1, [-0.1 * (len(frame.shown) == 0) for frame in frames], alpha=0.5, label="box shown"
    )
    axes.axhline(policy.start_score, linestyle=":")
    axes.set(xlabel="s", ylim=(-0.1, 1))
    axes.legend(loc="upper right", ncols=3)
    strip = img(jpeg(np.concatenate(cells, axis=1)), f"frames of {name}")
    return f"<h3>{name}</h3>{strip}{plot(figure, f'score of {name}', name)}"


def _mistakes(pictures: Sequence[LocatorPicture], found: Sequence[Scored], score: float) -> str:
    misses, false = [], []
    for picture, scored in zip(pictures, found, strict=True):
        sure = scored[scored[:, 4] >= score]
        overlaps = pairwise_iou(sure, picture.square.boxes) if len(picture.square.boxes) else None
        if overlaps is not None and (not len(sure) or (overlaps.max(axis=0) < MEETS).any()):
            misses.append((float(scored[:, 4].max(initial=0)), picture, sure))
        wrong = np.ones(len(sure), bool) if overlaps is None else overlaps.max(axis=1) < MEETS
        if wrong.any():
            false.append((-float(sure[wrong, 4].max()), picture, sure))
    body = ""
    for title, cases in (("Missed", misses), ("False boxes, the surest", false)):
        worst = sorted(cases, key=lambda case: case[0])[:SHOWN]
        cells = [_draw(p.square.pixels, p.square.boxes, sure[:, :4]) for _, p, sure in worst]
        if cells:
            rows = [cells[start : start + 6] for start in range(0, len(cells), 6)]
            rows[-1] += [np.zeros_like(cells[0])] * (len(rows[0]) - len(rows[-1]))
            sheet = np.concatenate([np.concatenate(row, axis=1) for row in rows])
            body += f"<h3>{title}</h3>{img(jpeg(sheet), title)}"
    return body and f"<p>Teal is what was marked, amber what was found.</p>{body}"


def _draw(
    square: NDArray[np.uint8], truth: NDArray[np.float32], shown: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """A picture of `CELL` pixels with its boxes, which are shares of the side."""
    small = cv2.resize(square, (CELL, CELL), interpolation=cv2.INTER_AREA)
    cell = np.asarray(cv2.cvtColor(small, cv2.COLOR_GRAY2BGR), np.uint8)
    for boxes, colour in ((truth, TRUTH), (shown, FOUND)):
        for left, top, right, bottom in np.rint(boxes[:, :4] * (CELL - 1)).astype(int).tolist():
            cv2.rectangle(cell, (left, top), (right, bottom), colour, 1)
    return cell


def _learning(record: LocatorRecord) -> str:
    figure, axes = new_figure(8, 3)
    steps = [line.step for line in record.history]
    axes.plot(steps, [line.score_loss for line in record.history], label="scores")
    axes.plot(steps, [line.sides_loss for line in record.history], label="sides")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend()
    return plot(figure, "losses over the steps", "The losses, as means of the steps before.")
