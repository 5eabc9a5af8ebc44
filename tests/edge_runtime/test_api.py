"""The Python interface: what is public, and that its examples run."""

import doctest
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import edge_runtime
from devices import Pixels
from devices.capture.phantom import Phantom
from devices.capture.scripted import Scripted
from edge_runtime import (
    BadInput,
    Box,
    DeviceLost,
    Model,
    Result,
    State,
    api,
    classify_source,
    load_bundle,
    load_shipped_bundle,
    results_of,
)
from tests.conftest import Collected

ROI = Box(167, 190, 108, 100)
PAGE = Path(__file__).parents[2] / "docs" / "api.md"


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(load_shipped_bundle(), any_picture=True)


def test_the_public_names_are_the_documented_ones() -> None:
    documented = {
        line.partition("`")[2].partition("`")[0]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `")
    }
    assert documented == set(edge_runtime.__all__)


@pytest.mark.parametrize("name", edge_runtime.__all__)
def test_each_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(edge_runtime, name).__doc__


def test_another_name_is_not_public() -> None:
    with pytest.raises(AttributeError, match="no attribute 'run_session'"):
        _ = edge_runtime.run_session


def test_the_examples_run() -> None:
    assert doctest.testmod(api).attempted > 10
    assert doctest.testmod(api).failed == 0


def test_the_command_line_does_not_load_the_interface() -> None:
    script = "import sys, edge_runtime.cli; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "edge_runtime.api" not in done.stdout.split()


def test_every_package_is_typed() -> None:
    root = Path(edge_runtime.__file__).parents[1]
    for name in ("edge_runtime", "devices", "train", "convert"):
        assert (root / name / "py.typed").is_file()


def test_an_image_is_classified_as_a_session_classifies_it(model: Model) -> None:
    alone = model.classify(Phantom(live=False).render(0), ROI)
    (result,) = results_of(model, "phantom:?frames=1&live=no", "167,190,108,100")
    assert (alone,) == result.nodules


def test_a_picture_out_of_scope_gets_no_label() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    nodule = Model(load_shipped_bundle()).classify(noise, Box(50, 50, 100, 100))
    assert (nodule.label, nodule.smoothed) == (None, None)
    assert nodule.out_of_scope_score is not None
    assert nodule.out_of_scope_score > 1


def test_a_box_outside_the_image_is_refused(model: Model) -> None:
    with pytest.raises(BadInput, match="lies outside"):
        model.classify(np.zeros((100, 100), np.uint8), Box(90, 90, 40, 40))


def test_leaving_the_loop_ends_the_session(model: Model) -> None:
    before = threading.active_count()
    for result in results_of(model, "phantom:?frames=1000&live=no"):
        assert result.frame == 0
        break
    assert threading.active_count() <= before


def test_the_end_of_a_live_session_is_raised(model: Model, pictures: list[Pixels]) -> None:
    with Scripted([pictures[0], DeviceLost("unplugged")], live=True) as device:
        results = results_of(model, device, budget=10.0)
        with pytest.raises(DeviceLost, match="unplugged"):
            list(results)


def test_a_sink_sees_what_the_loop_sees(model: Model, pictures: list[Pixels]) -> None:
    sink = Collected()
    with Scripted(pictures[:5], live=False) as device:
        summary = classify_source(model, device, [sink], whole_picture=True)
    assert [result.state for result in sink.results] == [State.LIVE] * 5
    assert all(isinstance(result, Result) for result in sink.results)
    assert summary.classified == 5


def test_a_bundle_whose_signer_is_not_trusted_is_refused(demo_path: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not trusted"):
        load_bundle(demo_path, trusted=tmp_path)
