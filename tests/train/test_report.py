"""The report, read as a browser would and as an auditor would."""

import base64
import json
from dataclasses import asdict, replace
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from train.decision_rule import DecisionRule
from train.measurement import Answers, Mistake
from train.report import Findings, _cautions, report_page

LABELS = ("benign", "malignant")
HOSTILE = '<script>alert("$5 & more")</script>.png'
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The page's text, sections, images and links; fails where a tag is not closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text = ""
        self.open: list[str] = []
        self.ids: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.links: list[str | None] = []
        self.tags: set[str] = set()
        self.source = source
        self.feed(self.source)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        its = dict(attrs)
        self.tags.add(tag)
        self.links += [its["href"]] if "href" in its else []
        self.ids += [its["id"] or ""] if "id" in its else []
        if tag == "img":
            self.images.append(its)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def picture(self, alt: str) -> NDArray[np.uint8]:
        (source,) = [its["src"] or "" for its in self.images if its["alt"] == alt]
        content = base64.b64decode(source.partition("base64,")[2])
        return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), -1), np.uint8)


def answered(seed: int, groups: int = 20) -> Answers:
    draw = np.random.default_rng(seed)
    labels = (draw.random(10 * groups) < 0.6).astype(np.int64)
    log_odds = 1.2 * draw.normal(size=10 * groups) + 2 * labels - 1
    scores, sharp = 1 / (1 + np.exp(-log_odds)), 1 / (1 + np.exp(-3 * log_odds))
    return Answers(
        labels,
        np.stack([1 - scores, scores], axis=1),
        np.stack([1 - sharp, sharp], axis=1),
        [f"p{number // 10}" for number in range(10 * groups)],
    )


def findings(threshold: float = 0.4) -> Findings:
    """A run with nothing but what every run has."""
    answers = {part: answered(seed) for seed, part in enumerate(("train", "validation", "test"))}
    rule = DecisionRule(LABELS, {"malignant": threshold})
    record = {
        "recipe_name": "seed-cnn",
        "recipe": {
            "about": "Three convolutions.",
            "task": {"labels": ("benign", "malignant"), "aliases": {}},
            "network": {"filters": (32, 64), "dense": None},
            "fit": {"patience": 4},
            "operating_point": {"sensitivity": 0.9},
            "distillation": None,
        },
        "interrupted": False,
        "seed": 5,
        "software": {"python": "3.11.7"},
        "data": {
            "name": "necks & more",
            "sha256": "a" * 64,
            "split_sha256": "b" * 64,
            "groups": 60,
            "counts": {part: {"benign": 80, "malignant": 120} for part in answers},
        },
        "history": (
            {
                "epoch": 1,
                "loss": 0.7,
                "auroc": 0.6,
                "validation_loss": 0.7,
                "validation_auroc": 0.6,
            },
            {
                "epoch": 2,
                "loss": 0.5,
                "auroc": 0.8,
                "validation_loss": 0.6,
                "validation_auroc": 0.7,
            },
        ),
        "best_epoch": 2,
        "temperature": 1.5,
        "thresholds": {"malignant": threshold},
        "metrics": {
            part: asdict(rule.measure(its.labels, its.probability, its.groups))
            for part, its in answers.items()
        },
    }
    return Findings(record, answers)


def everything() -> Findings:
    """A run with all that a report can show, its pictures noise, which is hard to compress."""
    bare = findings()
    draw = np.random.default_rng(0)
    test = bare.answers["test"]
    names = [
        "one class" if label and number % 9 == 0 else "$large$"
        for number, label in enumerate(test.labels)
    ]
    rule = DecisionRule(LABELS, {"malignant": 0.4})
    subgroups = rule.by_subgroup(test.labels, test.probability, test.groups, names)
    data = bare.record["data"] | {"dropped": {"too small": 3}, "duplicates": 27}
    record = {
        **bare.record,
        "data": data,
        "subgroups": {
            title: {name: asdict(its) for name, its in subgroups.items()}
            for title in ("nodule size", "box")
        },
        "history": tuple(epoch | {"seconds": 90.0} for epoch in bare.record["history"]),
        "teachers": bare.record["history"],
        "withheld": 0.0371,
    }
    noise = draw.integers(0, 256, (12, 224, 224, 1), np.uint8)
    signs = np.array([[8.0, 0.0], [0.0, -8.0]])
    mistakes = [
        Mistake(f"{number}.png", "benign", "malignant", 0.9, picture, signs)
        for number, picture in enumerate(noise)
    ]
    mistakes[0] = replace(mistakes[0], name=HOSTILE)
    return Findings(record, bare.answers, mistakes, draw.integers(0, 256, (900, 1600), np.uint8))


@pytest.fixture(scope="module")
def full() -> Page:
    return Page(report_page(everything()))


@pytest.fixture(scope="module")
def bare() -> Page:
    """Of a run with little to show: no image is called positive, so that there is no PPV."""
    return Page(report_page(findings(threshold=1.0)))


def test_the_page_needs_nothing_else(full: Page) -> None:
    assert "script" not in full.tags
    assert "link" not in full.tags
    assert all((its["src"] or "").startswith("data:image/") for its in full.images)
    assert "url(" not in full.source
    assert len(full.source) < 3e6


def test_every_image_says_what_it_shows(full: Page) -> None:
    assert all(its["alt"] for its in full.images)


def test_every_link_leads_to_a_section(full: Page) -> None:
    assert full.links == [f"#{name}" for name in full.ids]
    assert len(full.ids) == 12


def test_the_notice_stands_first(full: Page) -> None:
    assert "Research use only, not for diagnosis." in full.text.partition("In short")[0]


def test_the_headline_is_in_words_with_intervals(full: Page) -> None:
    test = everything().record["metrics"]["test"]
    low, high = test["intervals"]["sensitivity"]
    counted = test["confusion"]
    found, missed = counted["true_positive"], counted["false_negative"]
    assert (
        f"it finds {found} of {found + missed} malignant images, {100 * test['sensitivity']:.1f} % "
        f"({100 * low:.1f} to {100 * high:.1f})"
    ) in full.text
    assert "200 test images of 20 groups" in full.text


def test_all_material_is_shown(full: Page) -> None:
    for words in (
        "too small3",
        "27 pairs",
        "3.7 % of the test images are out of the model's scope",
        "They took 3 minutes",
        "the mean answer of 2 networks, with 0.600, 0.700 on validation",
        "$large$",
        "necks & more",
    ):
        assert words in full.text


def test_names_are_never_markup(full: Page) -> None:
    assert HOSTILE in full.text


def test_boxes_that_are_drawn_otherwise_are_explained(full: Page) -> None:
    assert "boxes drawn smaller or larger" in full.text


def test_a_subgroup_of_one_class_has_dashes(full: Page) -> None:
    row = full.text.partition("nodule size")[2].partition("one class")[2].partition("box")[0]
    assert row.count("–") == 4  # noqa: RUF001


def test_a_mistake_is_shown_as_the_network_saw_it(full: Page) -> None:
    shown = full.picture("1.png: benign, called malignant")
    assert np.array_equal(shown, everything().mistakes[1].picture[..., 0])


def test_evidence_is_orange_for_the_positive_class_and_blue_against_it(full: Page) -> None:
    blended = full.picture("The evidence of 1.png").astype(float)
    blue, _, red = np.moveaxis(blended, -1, 0)
    assert np.mean(red[:56, :56] - blue[:56, :56]) > 60
    assert np.mean(blue[-56:, -56:] - red[-56:, -56:]) > 60
    corner = blended[:40, -40:]
    assert np.abs(corner - corner.mean(-1, keepdims=True)).mean() < 15


def test_absent_material_leaves_its_section_out(bare: Page) -> None:
    assert not {"subgroups", "out-of-scope", "worst-mistakes", "augmentation"} & set(bare.ids)
    assert "dropped" not in bare.text
    assert "0 images that it called malignant, an unknown share were" in bare.text


def test_the_record_on_disk_gives_the_same_page(
    full: Page, capfd: pytest.CaptureFixture[str]
) -> None:
    again = replace(everything(), record=json.loads(json.dumps(everything().record)))
    assert report_page(again) == full.source
    assert capfd.readouterr() == ("", "")  # OpenCV's complaints go past Python's warnings


def cautions(**changes: Any) -> str:
    record = json.loads(json.dumps(findings().record))
    for path, value in changes.items():
        at = record
        *parents, last = path.split("__")
        for parent in parents:
            at = at[parent]
        at[last] = value
    return "\n".join(_cautions(record))


def test_what_weakens_the_figures_is_said() -> None:
    plain = cautions()
    assert plain.startswith("One split of one data set")
    assert "10 groups" not in plain
    assert "No groups are known" in cautions(data__grouped=False)
    assert "7 groups had images on both sides" in cautions(parted=7)
    assert "has 9 groups only" in cautions(metrics__test__groups=9)
    missed = cautions(metrics__test__intervals__sensitivity=[0.7, 0.8])
    assert "sensitivity of 0.90" in missed
    assert "was not reached" in missed


@pytest.mark.parametrize(
    ("held_out", "said"),
    [
        ("718x500", "test images of 718x500 pixels, which was never learnt from, of 20 groups"),
        ("!718x500", "of all sizes but 718x500 pixels, which alone was learnt from, of 20 groups"),
    ],
)
def test_a_scanner_that_was_held_out_is_named(held_out: str, said: str) -> None:
    bare = findings()
    record = {**bare.record, "held_out": held_out, "parted": 7}
    text = Page(report_page(replace(bare, record=record))).text
    assert said in text
    assert "no group stands on two sides" not in text


def test_a_teacher_whose_student_had_not_begun_is_called_one() -> None:
    bare = findings()
    recipe = bare.record["recipe"] | {"distillation": {"teachers": 3}}
    record = {**bare.record, "recipe": recipe, "interrupted": True, "teachers": ()}
    text = Page(report_page(replace(bare, record=record))).text
    assert "the user stopped the training before its end. It is one of the teachers" in text
