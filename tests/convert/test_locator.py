"""A locator joins a classifier: two stages in one bundle, and the first stays what it was."""

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from keras import layers

import convert.locator
from edge_runtime.bundle.archive import CARD, Bundle, open_bundle
from edge_runtime.bundle.gate import read_locator_gate
from edge_runtime.bundle.manifest import LOCATOR_GATE
from tests.conftest import Outcome, Shared, refused, replace_model, sonolite
from tests.edge_runtime.models.broken import resigned, with_absurd_scale
from train.locator.run import read_locator_run

SIDE = 64


@pytest.fixture(scope="module")
def finder(finder_path: Path) -> Bundle:
    return open_bundle(finder_path)


def join(run: Path, classifier: Path, out: Path, *options: str | Path) -> Outcome:
    words = ("convert", run, "--classifier", classifier, "--out", out, "--variants", "int8")
    return sonolite(*words, *options)


def test_the_bundle_has_two_stages(finder: Bundle) -> None:
    assert len(finder.manifest.stages) == 2
    stage = finder.manifest.locator
    assert stage is not None
    assert set(stage.variants) == {"int8"}
    assert stage.chosen_on == "validation"
    assert finder.manifest.name == "finder"


def test_the_policies_are_those_of_the_run(finder: Bundle, lively_run: Path) -> None:
    record = read_locator_run(lively_run).record
    stage = finder.manifest.locator
    assert stage is not None
    assert stage.tracking == record.tracking
    assert stage.pooling == record.recipe.pooling
    assert stage.preprocessing == record.recipe.preprocessing


def test_the_classifier_stays_byte_for_byte(finder: Bundle, demo_bundle: Bundle) -> None:
    assert finder.manifest.classifier == demo_bundle.manifest.classifier
    assert finder.manifest.origin == demo_bundle.manifest.origin
    for member in demo_bundle.manifest.members:
        if member != CARD:
            assert finder.read(member) == demo_bundle.read(member), member


def test_the_card_has_one_section_on_the_locator(finder: Bundle, demo_bundle: Bundle) -> None:
    card = finder.read(CARD).decode()
    assert card.count("\n## Locator\n") == 1
    title, body = card.split("\n", 1)
    assert title == "# finder, version 1"
    assert body.startswith(demo_bundle.read(CARD).decode().split("\n", 1)[1].rstrip())
    section = card.partition("\n## Locator\n")[2]
    for words in ("pictures, clips", "AP50", "On the test clips", "Edge TPU", "seed 0", "dB"):
        assert words in section
    assert "These scores are chosen on validation clips" in section


def test_the_gate_holds_every_variant_against_float32(finder: Bundle) -> None:
    gate = read_locator_gate(finder)
    assert [each.variant for each in gate.variants] == ["float32", "int8"]
    assert not any(each.failures for each in gate.variants)
    figures = gate.variants[1].figures
    assert {"images", "groups", "AP50", "AP50_difference", "recall"} <= set(figures)
    assert gate.variants[0].figures["AP50_difference"].value == 0
    assert json.loads(finder.read(LOCATOR_GATE))["split"] == "test"


def test_the_gate_names_the_layers_in_which_error_arises(finder: Bundle) -> None:
    (variant, layers), *others = json.loads(finder.read(LOCATOR_GATE))["layers"].items()
    assert (variant, others) == ("int8", [])
    arisen = [layer["arisen"] for layer in layers]
    assert arisen == sorted(arisen, reverse=True)
    assert len(arisen) > 3


def test_inspect_shows_the_locator(finder_path: Path) -> None:
    done = sonolite("inspect", finder_path)
    assert done.code == 0, done
    table = done.stdout.partition("The locator:")[2]
    for words in ("float32", "int8", "AP50", "recall", "limits", "held"):
        assert words in table


def test_a_second_locator_replaces_the_first(
    finder: Bundle, finder_path: Path, lossy_run: Path, tmp_path: Path
) -> None:
    words = ("convert", lossy_run, "--classifier", finder_path, "--variants", "float32")
    done = sonolite(*words, "--out", tmp_path / "again.sonolite", "--version", "7")
    assert done.code == 0, done
    again = open_bundle(tmp_path / "again.sonolite")
    assert (again.manifest.name, again.manifest.version) == ("again", 7)
    assert len(again.manifest.stages) == 2
    assert again.read(CARD).decode().count("\n## Locator\n") == 1
    replaced = set(finder.manifest.members) - {"locator_int8.tflite"} | {"locator_float32.tflite"}
    assert set(again.manifest.members) == replaced
    (gpu,) = json.loads(again.read(LOCATOR_GATE))["gpu"]
    assert gpu["model"] == "locator_float32.tflite"
    assert gpu["holds"] or gpu["refused"]
    assert again.manifest.classifier == finder.manifest.classifier


def test_a_locator_alone_is_no_bundle(locator_run: Path, tmp_path: Path) -> None:
    done = sonolite("convert", locator_run, "--out", tmp_path / "a.sonolite")
    refused(done, "the run of a locator", "--classifier")


@pytest.mark.parametrize(
    "option", [("--keep-float", "auto"), ("--quantisation-aware",), ("--tflite", "models")]
)
def test_options_of_a_classifier_are_refused(
    locator_run: Path, demo_path: Path, tmp_path: Path, option: tuple[str, ...]
) -> None:
    refused(join(locator_run, demo_path, tmp_path / "a.sonolite", *option), "--classifier goes")


def test_a_run_of_a_classifier_is_refused(
    locator_run: Path, demo_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(locator_run, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text('{"schema": 1, "recipe_name": "seed-cnn"}')
    refused(join(tmp_path / "run", demo_path, tmp_path / "a.sonolite"), "run.json", "kind")


def test_a_bundle_that_is_not_there_is_refused(locator_run: Path, tmp_path: Path) -> None:
    refused(join(locator_run, tmp_path / "none.sonolite", tmp_path / "a.sonolite"), "none.sonolite")


def test_a_classifier_that_crashes_is_joined_to_nothing(
    locator_run: Path, demo_bundle: Bundle, tmp_path: Path
) -> None:
    model = with_absurd_scale(demo_bundle.read("int8.tflite"))
    broken = resigned(demo_bundle, "int8.tflite", model, tmp_path / "broken.sonolite")
    words = ("convert", locator_run, "--classifier", broken, "--out", tmp_path / "x.sonolite")
    refused(sonolite(*words), "int8.tflite: the model crashes its interpreter")
    assert not (tmp_path / "x.sonolite").exists()


def test_missing_pictures_are_one_line(locator_run: Path, demo_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.sonolite"
    done = join(locator_run, demo_path, out, "--data", tmp_path / "moved")
    refused(done, str(tmp_path / "moved"))
    assert not out.exists()


def test_pictures_are_found_where_they_were_moved(
    lossy_run: Path, demo_path: Path, tmp_path: Path
) -> None:
    shutil.copytree(lossy_run.parent / "data", tmp_path / "moved")
    words = ("convert", lossy_run, "--classifier", demo_path, "--variants", "float32")
    done = sonolite(*words, "--data", tmp_path / "moved", "--out", tmp_path / "a.sonolite")
    assert done.code == 0, done
    stage = open_bundle(tmp_path / "a.sonolite").manifest.locator
    assert stage is not None
    assert set(stage.variants) == {"float32"}


def test_scores_of_a_run_without_validation_clips_are_not_called_chosen(
    lossy_run: Path, demo_path: Path, tmp_path: Path
) -> None:
    words = ("convert", lossy_run, "--classifier", demo_path, "--variants", "float32")
    assert sonolite(*words, "--out", tmp_path / "a.sonolite").code == 0
    bundle = open_bundle(tmp_path / "a.sonolite")
    assert "These scores are those of the recipe" in bundle.read(CARD).decode()
    assert bundle.manifest.locator is not None
    assert bundle.manifest.locator.chosen_on == "none"


def test_a_float_model_that_cannot_be_converted_is_one_line(
    locator_run: Path, demo_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytes:
        raise RuntimeError("an operation is not supported\nand many more words")

    monkeypatch.setattr(convert.locator, "convert", broken)
    done = join(locator_run, demo_path, tmp_path / "a.sonolite")
    refused(done, "float32: RuntimeError: an operation is not supported")
    assert "many more" not in done.stderr


def test_a_variant_below_the_limits_is_refused_with_its_figures(
    lossy_run: Path, demo_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.sonolite"
    done = join(lossy_run, demo_path, out)
    assert done.code == 1, done
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"sonolite: {lossy_run}: no variant of the locator holds")
    assert "holds: int8: AP50 lower by 1.0000 > 0.1, recall lower by 1.0000 > 0.1" in line
    assert not out.exists()


def test_of_several_variants_those_that_hold_are_kept(
    lossy_run: Path, demo_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.sonolite"
    words = ("convert", lossy_run, "--classifier", demo_path, "--variants", "float32,int8")
    done = sonolite(*words, "--out", out)
    assert done.code == 0, done
    bundle = open_bundle(out)
    assert bundle.manifest.locator is not None
    assert set(bundle.manifest.locator.variants) == {"float32"}
    assert "locator_int8.tflite" not in bundle.manifest.members
    float32, int8 = read_locator_gate(bundle).variants
    assert float32.figures["AP50"].value == pytest.approx(1)
    assert int8.figures["AP50"].value == 0
    assert int8.failures


@pytest.fixture(scope="module")
def lossy_run(shared: Shared, locator_run: Path) -> Path:
    """A run whose network finds faint squares by the square of their grey level.

    Of white that is 65025, so that in int8 one step is more than the square of a faint grey level:
    float32 finds all, and int8 nothing.
    """

    def make(folder: Path) -> None:
        data, run = folder / "data", folder / "run"
        data.mkdir()
        rng = np.random.default_rng(0)
        lines = ["path,frame,xmin,ymin,xmax,ymax,group,split"]
        for number in range(12):
            part = ("train", "validation", "test")[number % 3]
            pixels = rng.integers(0, 3, (4 * SIDE, 4 * SIDE), np.uint8)
            row, column = (32 * place for place in rng.integers(0, 8, 2).tolist())
            pixels[row : row + 32, column : column + 32] = 10
            cv2.imwrite(str(data / f"{number}.png"), pixels)
            box = f"{column},{row},{column + 32},{row + 32}"
            lines.append(f"{number}.png,0,{box},g{number},{part}")
        shutil.copytree(locator_run, run)
        (run / "split.csv").write_text("\n".join(lines) + "\n")
        record = json.loads((run / "run.json").read_bytes())
        record |= {"root": str(data), "split_sha256": sha256(run / "split.csv")}
        record["recipe"]["limits"] = {"ap50_drop": 0.1, "recall_drop": 0.1}
        record["clips"] = {}
        record["tracking"] |= {"start_score": 0.5, "keep_score": 0.25}
        (run / "run.json").write_text(json.dumps(record))
        replace_model(run, lossy_network().save)

    return shared("lossy", make) / "run"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lossy_network() -> keras.Model:
    """In each place the mean of the squares of 64 pixels, and a box as large as the place."""
    picture = keras.Input((SIDE, SIDE, 1), dtype="uint8", name="picture")
    x = layers.Rescaling(1.0, name="scale")(picture)
    x = layers.Multiply(name="squared")([x, x])
    x = layers.AveragePooling2D(8, name="mean")(x)
    # 100 in a square and 2 around it: log-odds of 10 and -9.6.
    weights = [np.full((1, 1, 1, 1), 0.2, np.float32), np.array([-10], np.float32)]
    score = layers.Conv2D(1, 1, name="score_logits")
    sides = layers.Conv2D(4, 1, name="sides_logits")
    scores, distances = layers.Reshape((8, 8))(score(x)), sides(x)
    score.set_weights(weights)
    # Half a place to each side is a sixteenth of the picture.
    sides.set_weights([np.zeros((1, 1, 1, 4), np.float32), np.full(4, -np.log(15), np.float32)])
    outputs = {
        "score": layers.Activation("sigmoid", name="score")(scores),
        "sides": layers.Activation("sigmoid", name="sides")(distances),
    }
    return keras.Model(picture, outputs, name="locator")
