"""`sonolite train` with the recipe of a locator: from marked pictures and clips to a run."""

import csv
import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from devices import BadInput
from edge_runtime.bundle.preprocess import parse
from tests.conftest import FINDER, TINY, Outcome, refused, sonolite
from train.augmentation import Augmentation
from train.locator import training
from train.locator.augmentation import Square
from train.locator.dataset import network_tensor, read_locator_data
from train.locator.learner import LocatorLearner, Source, draw_batch, freeze
from train.locator.network import build_locator
from train.locator.recipe import is_locator_run, read_locator_recipe
from train.locator.run import LocatorRun, read_locator_run
from train.locator.training import lacks
from train.marked import marked_pixels
from train.network import answer
from train.recipe import EfficientNetLite
from train.samples import PARTS

SIDE = 64
NETWORK = EfficientNetLite(dropout=0.1, width=0.25, depth=0.25)


@pytest.fixture(scope="module")
def run(locator_run: Path) -> LocatorRun:
    return read_locator_run(locator_run)


@pytest.fixture(scope="module")
def recipe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "finder.toml"
    path.write_text(FINDER)
    return path


def test_the_run_holds_all_that_is_needed(locator_run: Path) -> None:
    names = {path.name for path in locator_run.iterdir()}
    assert names == {"model.keras", "run.json", "split.csv", "report.html"}
    assert is_locator_run(locator_run)


def test_another_folder_is_not_the_run_of_a_locator(tmp_path: Path) -> None:
    assert not is_locator_run(tmp_path)
    (tmp_path / "run.json").write_text('{"kind": "classifier"}')
    assert not is_locator_run(tmp_path)


def test_the_record_says_what_was_learnt_from(run: LocatorRun) -> None:
    record = run.record
    assert record.data == ("pictures", "clips")
    assert record.dropped == {}
    total = {name: sum(record.counts[part][name] for part in PARTS) for name in ("boxes", "empty")}
    assert total == {"boxes": 16 + 30, "empty": 8 + 30}
    assert sum(record.counts[part]["groups"] for part in PARTS) == 8 + 3
    assert [line.step for line in record.history] == [6]
    assert all(np.isfinite((line.score_loss, line.sides_loss)).all() for line in record.history)
    assert set(record.metrics) == set(record.clips) == {"validation", "test"}
    assert record.clips["test"].frames == 20


def test_the_scores_are_chosen_and_the_rest_of_the_policy_is_the_recipes(run: LocatorRun) -> None:
    chosen, given = run.record.tracking, run.record.recipe.tracking
    assert 0 < chosen.keep_score < chosen.start_score < 1
    assert (chosen.min_iou, chosen.confirm_hits) == (given.min_iou, given.confirm_hits)


@pytest.mark.parametrize(
    ("false", "words"),
    [
        (0.05, "chosen on validation clips so that at most 5% of the empty frames have a box"),
        (0.125, "where 12.5% of the empty frames have a box: no scores keep them to 5%"),
        (None, "chosen on validation clips, none of which has an empty frame"),
    ],
)
def test_the_record_tells_how_the_scores_were_chosen(
    run: LocatorRun, false: float | None, words: str
) -> None:
    clips = replace(run.record.clips["validation"], false=false)
    assert words in replace(run.record, clips={"validation": clips}).scores_are


def test_without_validation_clips_the_scores_are_those_of_the_recipe(run: LocatorRun) -> None:
    record = replace(run.record, clips={"test": run.record.clips["test"]})
    assert record.scores_are.startswith("those of the recipe")


def test_what_the_data_lack_is_told(marked: Path, marked_clips: Path) -> None:
    whole = read_locator_data([marked, marked_clips], SIDE, 0)
    assert list(lacks(whole)) == []
    stills = [its for its in whole.pictures if not its.moving]
    (line,) = lacks(replace(whole, pictures=tuple(stills)))
    assert line.startswith("no validation clips")
    full = [its for its in whole.pictures if its.marked.boxes]
    empty, false = lacks(replace(whole, pictures=tuple(full)))
    assert empty.startswith("no empty picture")
    assert false.startswith("no empty frame in the validation clips")


def test_the_split_lists_every_box_and_every_empty_picture(
    locator_run: Path, run: LocatorRun
) -> None:
    content = (locator_run / "split.csv").read_bytes()
    assert hashlib.sha256(content).hexdigest() == run.record.split_sha256
    rows = list(csv.DictReader(content.decode().splitlines()))
    assert len(rows) == 24 + 60
    assert sum(bool(row["xmin"]) for row in rows) == 16 + 30
    assert all(row["split"] in PARTS for row in rows)


def test_a_run_is_read_back_with_the_pictures_that_it_saw(
    run: LocatorRun, marked: Path, marked_clips: Path
) -> None:
    data = read_locator_data([marked, marked_clips], SIDE, run.record.seed)
    seen = {(its.path, its.frame, its.boxes, its.group, its.part) for its in run.pictures}
    for its in data.pictures:
        assert (
            its.marked.path,
            its.marked.frame,
            its.marked.boxes,
            its.marked.group,
            its.part,
        ) in seen
    assert len(seen) == len(data.pictures)
    assert Counter(its.part for its in run.pictures) == {
        part: run.record.counts[part]["pictures"] for part in PARTS
    }


def test_the_model_answers_a_score_and_four_sides_a_place(run: LocatorRun) -> None:
    maps = answer(run.model, np.zeros((2, SIDE, SIDE, 1), np.uint8))
    assert maps["score"].shape == (2, 8, 8)
    assert maps["sides"].shape == (2, 8, 8, 4)
    for values in maps.values():
        assert np.isfinite(values).all()
        assert ((values >= 0) & (values <= 1)).all()


def test_the_report_shows_the_figures_and_a_filmstrip_of_each_test_clip(locator_run: Path) -> None:
    page = (locator_run / "report.html").read_text()
    for words in ("AP50", "sensitivity at 0.5", "FROC", "test.avi", "Research use only"):
        assert words in page
    assert "train.avi" not in page


def test_moved_pictures_are_found_by_data(locator_run: Path, tmp_path: Path) -> None:
    moved = read_locator_run(locator_run, tmp_path)
    assert all(its.path.is_relative_to(tmp_path) for its in moved.pictures)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_model(
    marked: Path, marked_clips: Path, recipe_path: Path, tmp_path: Path, run: LocatorRun
) -> None:
    words = ("train", marked, "--also", marked_clips, "--recipe", recipe_path, "--json")
    done = sonolite(*words, "--out", tmp_path / "again")
    assert done.code == 0, done
    again = read_locator_run(tmp_path / "again")
    for one, other in zip(run.model.get_weights(), again.model.get_weights(), strict=True):
        assert np.array_equal(one, other)
    assert again.record.metrics == run.record.metrics
    assert json.loads(done.stdout[done.stdout.index("{") :])["kind"] == "locator"


@pytest.mark.parametrize("file", ["model.keras", "split.csv", "run.json"])
def test_a_run_with_a_missing_or_changed_file_is_refused(
    locator_run: Path, tmp_path: Path, file: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(locator_run, folder)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(BadInput, match=file):
        read_locator_run(folder)
    (folder / file).unlink()
    with pytest.raises(BadInput, match="not the run of a locator"):
        read_locator_run(folder)


@pytest.mark.parametrize(
    "option",
    [
        ("--folds", "5"),
        ("--hold-out", "320x240"),
        ("--labels", "a,b"),
        ("--positive", "a"),
        ("--task", "a"),
        ("--epochs", "3"),
        ("--tirads", "4a"),
        ("--part-groups",),
        ("--no-distillation",),
        ("--drop-leaks",),
    ],
    ids=lambda option: option[0],
)
def test_options_of_a_classifier_are_refused(
    marked: Path, recipe_path: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    words = ("train", marked, "--recipe", recipe_path, "--out", tmp_path)
    refused(sonolite(*words, *option), "a locator takes --out")


def test_also_belongs_to_a_locator(marked: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    words = ("train", marked, "--also", marked, "--recipe", tmp_path / "tiny.toml")
    refused(sonolite(*words, "--out", tmp_path / "run"), "--also", "locator")


def test_a_run_needs_a_new_folder_in_one_that_is_there(
    marked: Path, recipe_path: Path, tmp_path: Path
) -> None:
    words = ("train", marked, "--recipe", recipe_path)
    refused(sonolite(*words), "--out FOLDER")
    refused(sonolite(*words, "--out", tmp_path), "exists already")
    refused(sonolite(*words, "--out", tmp_path / "none" / "run"), "there is no folder")


@pytest.mark.parametrize("option", ["--also", "--other"])
def test_data_that_are_not_there_are_refused(
    marked: Path, recipe_path: Path, tmp_path: Path, option: str
) -> None:
    words = ("train", marked, option, tmp_path / "none", "--recipe", recipe_path)
    refused(sonolite(*words, "--out", tmp_path / "run"), "no such file or folder")
    assert not (tmp_path / "run").exists()


def test_a_wrong_recipe_is_refused_in_one_line(marked: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(FINDER.replace("channels = 16", "channels = 1"))
    words = ("train", marked, "--recipe", path, "--out", tmp_path / "run")
    refused(sonolite(*words), "channels")


def test_labelled_pictures_without_boxes_are_refused(recipe_path: Path, tmp_path: Path) -> None:
    for label in ("benign", "malignant"):
        (tmp_path / "data" / label).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / label / "a.png"), np.eye(90, dtype=np.uint8) * 90)
    words = ("train", tmp_path / "data", "--recipe", recipe_path, "--out", tmp_path / "run")
    refused(sonolite(*words), "no boxes found")


def grey(level: int) -> Square:
    return Square(np.full((80, 80), level, np.uint8), np.zeros((0, 4), np.float32))


def test_a_batch_is_drawn_by_the_shares_of_its_sources() -> None:
    off = Augmentation(**dict.fromkeys(Augmentation.__dataclass_fields__, 0.0))
    sources = [Source([grey(100)], 3.0), Source([grey(200)], 1.0)]
    levels: Counter[int] = Counter()
    for number in range(20):
        pictures, score, *_ = draw_batch(sources, SIDE, off, 0.0, 20, (0, number))
        assert pictures.shape == (20, SIDE, SIDE, 1)
        assert score.shape == (20, 8, 8)
        levels.update(int(picture[32, 32, 0]) for picture in pictures)
    assert set(levels) == {100, 200}
    assert levels[100] / 400 == pytest.approx(0.75, abs=0.07)


def test_the_same_key_gives_the_same_batch(marked: Path) -> None:
    squares = [its.square for its in read_locator_data([marked], SIDE, 0).pictures]
    one, same, other = (
        draw_batch([Source(squares, 1.0)], SIDE, Augmentation(), 0.5, 4, (7, number))
        for number in (0, 0, 1)
    )
    assert all(np.array_equal(*pair) for pair in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_before_anything_is_learnt_a_nodule_is_rare() -> None:
    model = build_locator(NETWORK, SIDE, 16)
    scores = answer(model, np.zeros((1, SIDE, SIDE, 1), np.uint8))["score"]
    assert scores == pytest.approx(0.01, abs=0.005)


def test_frozen_stages_do_not_learn() -> None:
    model = build_locator(NETWORK, SIDE, 16)
    every = len(model.trainable_variables)
    freeze(model, NETWORK, 0)
    assert len(model.trainable_variables) == every
    freeze(model, NETWORK, 2)
    frozen = [layer.name for layer in model.layers if not layer.trainable]
    assert {name.split("_")[0] for name in frozen} == {"stem", "block0", "block1"}


@pytest.mark.slow
def test_frozen_weights_stay_and_the_others_are_averaged(recipe_path: Path) -> None:
    sources = [Source([Square(grey(90).pixels, np.array([[0.3, 0.3, 0.6, 0.6]], np.float32))], 1.0)]
    recipe = read_locator_recipe(str(recipe_path))
    recipe = replace(recipe, fit=replace(recipe.fit, frozen=2))
    learner, told = LocatorLearner(recipe, sources, seed=1), list[int]()
    before = {layer.name: layer.get_weights() for layer in learner.averaged().layers}
    learner.learn(0, 3, told.append)
    learnt = {layer.name: layer.get_weights() for layer in learner.averaged().layers}
    for name in ("stem", "block0_depthwise", "block1_expand"):
        assert all(np.array_equal(*pair) for pair in zip(learnt[name], before[name], strict=True))
    assert not np.array_equal(learnt["score_logits"][0], before["score_logits"][0])
    assert told == [1, 2, 3]


@pytest.fixture
def train_briefly(
    marked: Path, marked_clips: Path, recipe_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Outcome]:
    """`sonolite train` of six steps, of which two are one line of the history."""
    monkeypatch.setattr(training, "EVERY", 2)
    words = ("train", marked, "--also", marked_clips, "--recipe", recipe_path)
    return lambda out, *more: sonolite(*words, "--out", out, *more)


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody presses Ctrl-C at this step."""
    learn = LocatorLearner.learn

    def stopped(self: LocatorLearner, first: int, *more: Any) -> tuple[float, float]:
        if first == step:
            raise KeyboardInterrupt
        return learn(self, first, *more)

    monkeypatch.setattr(LocatorLearner, "learn", stopped)


def test_a_training_that_was_stopped_goes_on_to_the_same_result(
    train_briefly: Callable[..., Outcome], tmp_path: Path
) -> None:
    assert train_briefly(tmp_path / "whole").code == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_at(4, patch)
        done = train_briefly(tmp_path / "run")
    assert done.code == 130, done
    assert "stopped early; --resume goes on" in done.stderr
    stopped = read_locator_run(tmp_path / "run").record
    assert stopped.interrupted
    assert [line.step for line in stopped.history] == [2, 4]
    refused(train_briefly(tmp_path / "run"), "exists already")

    assert train_briefly(tmp_path / "run", "--resume").code == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run", "whole"]
    run, whole = read_locator_run(tmp_path / "run"), read_locator_run(tmp_path / "whole")
    assert not run.record.interrupted
    assert [line.step for line in run.record.history] == [2, 4, 6]
    for one, other in zip(run.model.get_weights(), whole.model.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-5)
    refused(train_briefly(tmp_path / "run", "--resume"), "exists already")


def test_a_training_that_was_stopped_at_once_leaves_no_run(
    train_briefly: Callable[..., Outcome], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_at(0, patch)
        assert train_briefly(tmp_path / "run").code == 130
    assert not (tmp_path / "run").exists()
    refused(train_briefly(tmp_path / "run"), "an unfinished training; go on with --resume")
    refused(
        train_briefly(tmp_path / "run", "--resume", "--seed", "7"),
        "was begun with another recipe, seed or data",
    )


def test_the_recipe_of_the_run_is_kept(run: LocatorRun, recipe_path: Path) -> None:
    assert run.record.recipe == read_locator_recipe(str(recipe_path))
    assert parse(run.record.recipe.preprocessing).side == SIDE


def test_a_run_begins_with_the_weights_of_another_one(
    marked: Path, marked_clips: Path, recipe_path: Path, tmp_path: Path, run: LocatorRun
) -> None:
    slow = tmp_path / "slow.toml"
    text = recipe_path.read_text()
    slow.write_text(re.sub(r"learning_rate = \S+", "learning_rate = 1e-9", text))
    assert slow.read_text() != text
    words = ("train", marked, "--also", marked_clips, "--recipe", slow, "--seed", "5")
    assert sonolite(*words, "--start-from", run.folder, "--out", tmp_path / "next").code == 0
    after = read_locator_run(tmp_path / "next")
    assert after.record.started_from == run.record.model_sha256
    for layer in after.model.layers:
        for one, other in zip(
            layer.trainable_weights, run.model.get_layer(layer.name).trainable_weights, strict=True
        ):
            assert np.allclose(one, other, atol=1e-6)


def test_a_run_of_another_network_is_no_start(
    marked: Path, recipe_path: Path, tmp_path: Path, locator_run: Path
) -> None:
    wider = tmp_path / "wider.toml"
    wider.write_text(re.sub(r"channels = \d+", "channels = 24", recipe_path.read_text(), count=1))
    words = ("train", marked, "--recipe", wider, "--out", tmp_path / "next")
    refused(sonolite(*words, "--start-from", locator_run), "another network than the recipe")


def test_a_classifier_has_no_start(tmp_path: Path, locator_run: Path) -> None:
    words = ("train", tmp_path, "--out", tmp_path / "next", "--start-from", locator_run)
    refused(sonolite(*words), "--start-from: goes with the recipe of a locator")


def test_pictures_are_measured_as_a_device_prepares_them(marked: Path) -> None:
    data = read_locator_data([marked], SIDE, 0)
    preprocessing = parse(f"gray|crop(context=1)|resize({SIDE})")
    measured = [*data.of("validation"), *data.of("test")]
    assert measured
    for picture in measured:
        ((_, pixels),) = marked_pixels([picture.marked])
        device = preprocessing(pixels, None)
        assert np.array_equal(network_tensor(picture, preprocessing), device)
