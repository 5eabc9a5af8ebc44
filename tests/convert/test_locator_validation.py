"""`sonolite validate --marked`: the locator of a bundle on marked pictures and clips."""

import json
from pathlib import Path

import pytest

from convert.locator_validation import validate_locator
from edge_runtime.bundle.archive import open_bundle
from edge_runtime.models.locator import Locator
from tests.conftest import refused, sonolite
from train.locator.run import read_locator_run


def test_the_figures_of_float32_are_those_of_the_run(
    lively_run: Path, demo_path: Path, marked_clips: Path, tmp_path: Path
) -> None:
    out = tmp_path / "finder.sonolite"
    words = ("convert", lively_run, "--classifier", demo_path, "--variants", "float32,int8")
    assert sonolite(*words, "--out", out).code == 0
    done = sonolite("validate", out, "--marked", marked_clips, "--json")
    assert done.code == 0, done
    said = json.loads(done.stdout)
    assert list(said) == ["float32", "int8"]
    own = sonolite("evaluate", lively_run, "--data", marked_clips, "--allow-seen", "--json")
    expected = json.loads(own.stdout)
    assert said["float32"]["clips"] == expected["clips"]
    for name, figure in expected["metrics"].items():
        assert said["float32"]["metrics"][name]["value"] == pytest.approx(figure["value"], abs=0.02)
    assert said["float32"]["pictures"] == expected["pictures"] == 60
    stage = open_bundle(out).manifest.locator
    assert stage is not None
    assert stage.tracking == read_locator_run(lively_run).record.tracking


def test_the_locator_of_the_package_finds_the_nodules_of_the_phantom(
    shipped_path: Path, marked_clips: Path
) -> None:
    done = sonolite("validate", shipped_path, "--marked", marked_clips)
    assert done.code == 0, done
    assert "AP50" in done.stdout
    assert "false tracks a minute" in done.stdout
    assert "60 pictures" in done.stderr
    (found,) = validate_locator(
        open_bundle(shipped_path), marked_clips, lambda _: None, lambda _: iter
    ).values()
    assert found.clips is not None
    assert found.clips.found is not None
    assert found.clips.found > 0.5


def test_an_answer_that_is_not_a_number_is_refused(
    shipped_path: Path, marked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise RuntimeError("the answer of the locator is not a number")

    monkeypatch.setattr(Locator, "answer", broken)
    monkeypatch.setattr(Locator, "_check_golden_answers", lambda *_: None)
    refused(sonolite("validate", shipped_path, "--marked", marked), "int8: the answer")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--data for the classifier, or --marked for the locator"),
        (("--data", "a", "--marked", "b"), "one of them"),
        (("--marked", "b", "--tirads", "2=benign"), "--marked goes with --json alone"),
    ],
)
def test_what_does_not_go_together_is_refused(
    shipped_path: Path, words: tuple[str, ...], said: str
) -> None:
    refused(sonolite("validate", shipped_path, *words), said)


def test_a_bundle_without_a_locator_is_refused(demo_path: Path, marked: Path) -> None:
    refused(sonolite("validate", demo_path, "--marked", marked), "has no locator")


def test_pictures_that_cannot_be_used_are_told(
    shipped_path: Path, marked: Path, tmp_path: Path
) -> None:
    rows = (marked / "manifest.csv").read_text().splitlines()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    table = tmp_path / "table.csv"
    named = [f"{marked}/{row}" for row in rows[1:4]]
    table.write_text("\n".join([rows[0], *named, f"{broken},1,1,20,20,x"]))
    done = sonolite("validate", shipped_path, "--marked", table)
    assert done.code == 0, done
    assert "1 dropped: unreadable" in done.stderr
