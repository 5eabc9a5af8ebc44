"""A run is measured on what it never saw, and on what it must not judge."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from devices import BadInput
from devices.capture.image import read_image
from edge_runtime.bundle import preprocess
from tests.conftest import draw_labelled, refused, sonolite
from tests.train.importers.test_ddti import draw_graded
from train.evaluation import Evaluation, evaluate_run
from train.run import Run, read_run


@pytest.fixture(scope="module")
def run(slim_run: Path) -> Run:
    return read_run(slim_run)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 images of 8 patients that no run has seen, without boxes as those of the run."""
    folder = draw_labelled(tmp_path_factory.mktemp("others") / "images", patients=4, first=20)
    (folder / "manifest.csv").unlink()
    return folder


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of coarse noise, in a folder and one below it, and a file that is none."""
    folder = tmp_path_factory.mktemp("noise")
    (folder / "inner").mkdir()
    (folder / "notes.txt").write_text("not an image")
    for number in range(8):
        grains = np.random.default_rng(number).integers(0, 256, (24, 32), np.uint8)
        pixels = np.kron(grains, np.ones((10, 10), np.uint8))
        cv2.imwrite(str(folder / ("inner" if number % 2 else ".") / f"{number}.png"), pixels)
    return folder


def evaluate(
    run: Run,
    data: Path,
    strange: Path | None = None,
    tirads: dict[str, str] | None = None,
    allow_seen: bool = False,
) -> Evaluation:
    return evaluate_run(run, data, strange, tirads, allow_seen, lambda _: None)


def test_other_data_is_measured_at_the_runs_operating_point(run: Run, others: Path) -> None:
    evaluation = evaluate(run, others)
    assert evaluation.metrics.samples == 16
    assert evaluation.metrics.groups == 8
    assert evaluation.dropped == {}
    assert evaluation.out_of_scope is None


def test_the_run_measured_on_its_own_test_images_gives_its_figures(
    tmp_path: Path, run: Run
) -> None:
    for sample in run.split.of("test"):
        name = f"{sample.path.parent.name}-{sample.path.name}"
        there = tmp_path / sample.label / sample.group / name
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sample.path, there)
    assert evaluate(run, tmp_path).metrics == run.record.metrics["test"]


def test_what_is_dropped_is_counted_and_named(tmp_path: Path, run: Run, others: Path) -> None:
    folder = Path(shutil.copytree(others, tmp_path / "images"))
    (folder / "benign" / "benign20" / "0.png").write_text("no image")
    notes: list[str] = []
    evaluation = evaluate_run(run, folder, None, None, False, notes.append)
    assert evaluation.metrics.samples == 15
    assert evaluation.dropped == {"unreadable": 1}
    assert any(note.startswith("1 dropped: unreadable; the first: ") for note in notes)


def test_images_that_the_model_learnt_from_are_refused_by_name(run: Run, messy: Path) -> None:
    with pytest.raises(BadInput, match="the model was made with pictures of this data") as refusal:
        evaluate(run, messy)
    assert "0.png is " in str(refusal.value)
    assert "and " in str(refusal.value)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_brightened_copy_is_known_again(
    tmp_path: Path, run: Run, others: Path, part: str
) -> None:
    folder = Path(shutil.copytree(others, tmp_path / "images"))
    known = run.split.of(part)[0].path  # type: ignore[arg-type]
    brighter = cv2.convertScaleAbs(read_image(known), alpha=1.2, beta=5)
    cv2.imwrite(str(folder / "benign" / "benign20" / "new.jpg"), brighter)
    with pytest.raises(BadInput, match=f"new.jpg is {known}"):
        evaluate(run, folder)


def test_seen_images_are_measured_where_that_is_asked_for(slim_run: Path, messy: Path) -> None:
    words = ("evaluate", slim_run, "--data", messy, "--json")
    refused(sonolite(*words), "the model was made with")
    done = sonolite(*words, "--allow-seen")
    assert done.code == 0, done
    assert json.loads(done.stdout)["metrics"]["samples"] == 61


def test_other_images_of_groups_that_the_model_learnt_from_are_refused(
    tmp_path: Path, slim_run: Path, messy: Path, others: Path
) -> None:
    """Beside the images that were learnt from; of another folder they may be other patients."""
    images = shutil.copytree(messy, tmp_path / "images")
    folder = Path(shutil.copytree(slim_run, tmp_path / "run"))
    record = (folder / "run.json").read_text().replace(str(messy), str(images))
    (folder / "run.json").write_text(record)
    run = read_run(folder)
    known = run.split.of("train")[0]
    rows = [f"{path},{path.parent.parent.name},{known.group}" for path in others.rglob("*.png")]
    table = tmp_path / "later.csv"
    table.write_text("\n".join(("path,label,group", *rows)))
    told: list[str] = []
    found = evaluate_run(run, table, None, None, False, told.append)
    layout, groups = told
    assert layout.startswith("data: table, 2 classes")
    assert found.known_groups == 1
    assert known.group in groups
    beside = known.path.with_name("later.png")
    shutil.copy(next(others.rglob("*.png")), beside)
    rows.append(f"{beside},{known.label},{known.group}")
    table.write_text("\n".join(("path,label,group", *rows)))
    with pytest.raises(BadInput, match=f"learnt from 1 groups of this data: {known.group}"):
        evaluate(run, table)


def test_moved_images_of_the_run_are_looked_for_where_they_are_said_to_be(
    tmp_path: Path, slim_run: Path, messy: Path, others: Path
) -> None:
    lost = Path(shutil.copytree(slim_run, tmp_path / "run"))
    record = (lost / "run.json").read_text().replace(str(messy), str(tmp_path / "gone"))
    (lost / "run.json").write_text(record)
    words = ("evaluate", lost, "--data", others)
    refused(sonolite(*words), str(tmp_path / "gone"), "--images")
    assert sonolite(*words, "--images", messy).code == 0


def test_a_class_that_is_missing_is_named(tmp_path: Path, run: Run, others: Path) -> None:
    shutil.copytree(others / "benign", tmp_path / "benign")
    with pytest.raises(BadInput, match="no image of class 'malignant'"):
        evaluate(run, tmp_path)


def test_noise_is_told_apart_from_nodules(slim_run: Path, others: Path, noise: Path) -> None:
    words = ("evaluate", slim_run, "--data", others, "--out-of-scope", noise)
    done = sonolite(*words, "--json")
    assert done.code == 0, done
    found = json.loads(done.stdout)["out_of_scope"]
    assert found["pictures"] == 8
    assert found["auroc"] > 0.95
    assert found["noticed"] == 1
    shown = sonolite(*words).stdout
    assert "8 pictures" in shown
    assert "inner: 100.0%" in shown


def test_each_kind_is_told_alone(run: Run, others: Path, noise: Path, tmp_path: Path) -> None:
    shutil.copytree(noise, tmp_path / "kinds" / "noise")
    shutil.copytree(others / "benign", tmp_path / "kinds" / "nodules")
    found = evaluate(run, others, strange=tmp_path / "kinds").out_of_scope
    assert found is not None
    assert found.by_kind["noise"] == 1
    assert found.by_kind["nodules"] < 1
    assert found.noticed == pytest.approx((found.by_kind["noise"] + found.by_kind["nodules"]) / 2)


def test_pictures_that_the_scope_was_fitted_with_are_told(
    run: Run, others: Path, noise: Path
) -> None:
    side = run.outliers.shape[1]
    preprocessing = preprocess.parse(run.record.recipe.preprocessing)
    shown = preprocessing(read_image(noise / "0.png"))
    taught = replace(run, outliers=np.concatenate([shown, np.zeros((1, side, side, 1), np.uint8)]))
    notes: list[str] = []
    evaluate_run(taught, others, noise, None, False, notes.append)
    assert any("1 of the pictures in" in note and "flatter" in note for note in notes)
    notes.clear()
    evaluate_run(run, others, noise, None, False, notes.append)
    assert not any("flatter" in note for note in notes)


def test_the_same_pictures_are_not_out_of_scope(run: Run, others: Path) -> None:
    found = evaluate(run, others, strange=others / "benign").out_of_scope
    assert found is not None
    assert found.pictures == 8
    assert found.auroc < 0.95


def test_the_shares_are_those_beyond_the_limit(run: Run, others: Path, noise: Path) -> None:
    assert run.scope is not None
    for limit, share in ((1e-9, 1.0), (1e9, 0.0)):
        narrow = replace(run, scope=replace(run.scope, limit=limit))
        evaluation = evaluate(narrow, others, strange=noise)
        assert evaluation.out_of_scope is not None
        assert (evaluation.out_of_scope.noticed, evaluation.withheld) == (share, share)


def test_without_strange_pictures_what_is_withheld_is_told(run: Run, others: Path) -> None:
    assert run.scope is not None
    strict = replace(run, scope=replace(run.scope, limit=1e-9))
    assert evaluate(strict, others).withheld == 1


def test_what_is_withheld_is_told_to_people_too(slim_run: Path, others: Path) -> None:
    told = sonolite("evaluate", slim_run, "--data", others).stdout
    assert "of the images lie beyond the scope of the float model" in told


def test_a_model_without_a_scope_says_so(run_folder: Path, others: Path, noise: Path) -> None:
    assert evaluate(read_run(run_folder), others).withheld is None
    with pytest.raises(BadInput, match="no embedding, so there is no scope"):
        evaluate(read_run(run_folder), others, strange=noise)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, others: Path) -> Path:
    """The same patients in DDTI's layout, graded instead of labelled."""
    return draw_graded(tmp_path_factory.mktemp("graded"), others)


def test_grades_are_mapped_to_the_classes(slim_run: Path, graded: Path) -> None:
    words = ("evaluate", slim_run, "--data", graded, "--json")
    refused(sonolite(*words), "TI-RADS")
    done = sonolite(*words, "--tirads", "2=benign,5=malignant")
    assert done.code == 0, done
    assert json.loads(done.stdout)["metrics"]["samples"] == 8


@pytest.mark.parametrize("grades", ["5=cancer,2=benign", "5", "5=malignant,5=benign"])
def test_grades_that_say_nothing_are_one_line(slim_run: Path, graded: Path, grades: str) -> None:
    refused(sonolite("evaluate", slim_run, "--data", graded, "--tirads", grades), "TI-RADS grade")
