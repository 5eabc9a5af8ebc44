"""A learner keeps what it is told to keep, and takes up no state but its own."""

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from devices import BadInput
from tests.train.conftest import BATCHES, Train, stop_at
from train.batches import PatchSet
from train.cluster import ALONE
from train.learner import Learner, _ema_momentum
from train.metrics import Labels
from train.network import FusedNormalization, predict
from train.recipe import (
    Convolutions,
    Fit,
    Network,
    Recipe,
)
from train.resume import STATE


@pytest.mark.slow
def test_averaging_changes_what_is_kept_and_not_how_it_learns(
    tmp_path: Path, trained: Train, everything: Recipe
) -> None:
    last = replace(everything, fit=replace(everything.fit, average=0.0))
    one, other = trained(everything, tmp_path / "a"), trained(last, tmp_path / "b")
    assert [its.loss for its in one.history] == [its.loss for its in other.history]
    assert [its.validation_loss for its in one.history] != [
        its.validation_loss for its in other.history
    ]


def convinced(learner: Learner, share: float) -> keras.Model:
    """A network that answers to every picture that its malignant share is `share`."""
    model = learner.kept()
    logits = model.get_layer("logits")
    kernel, bias = logits.get_weights()
    odds = np.array([0.0, np.log(share / (1 - share))])
    logits.set_weights([0 * kernel, odds.astype(bias.dtype)])
    return model


def test_a_student_begins_as_its_first_teacher_and_comes_to_the_mean_answer_of_all(
    plain: Recipe, given_data: tuple[PatchSet, tuple[NDArray[np.uint8], Labels]]
) -> None:
    """The labels, one half of each class, say otherwise than the teachers."""
    train, (pictures, _) = given_data
    fit = replace(plain.fit, learning_rate=0.05, label_smoothing=0.0)
    plain = replace(plain, fit=fit)
    alone = Learner(plain, 3, train)
    teachers = [convinced(alone, share) for share in (0.95, 0.65)]
    student = Learner(plain, 3, train, ALONE, teachers)
    assert predict(student.kept(), pictures)[:, 1] == pytest.approx(0.95, abs=1e-6)
    for number in range(20):
        student.learn(number, lambda: None)
    student.keep()
    assert predict(student.kept(), pictures)[:, 1] == pytest.approx(0.8, abs=0.02)


def test_a_training_that_diverges_is_one_line(
    plain: Recipe, given_data: tuple[PatchSet, tuple[NDArray[np.uint8], Labels]]
) -> None:
    learner = Learner(plain, 3, given_data[0])
    learner._model.set_weights([its * np.nan for its in learner._model.get_weights()])
    with pytest.raises(BadInput, match="lower the learning_rate"):
        learner.measure(given_data[1])


def test_the_rate_rises_from_nothing(
    plain: Recipe, given_data: tuple[PatchSet, tuple[NDArray[np.uint8], Labels]]
) -> None:
    """Of two steps, each an epoch, the first has a rate of zero."""
    fit = replace(plain.fit, batch=1000, epochs=2, schedule="cosine", warmup=0.5)
    learner = Learner(replace(plain, fit=fit), 3, given_data[0])
    assert learner.batches == 1
    pictures = given_data[1][0]
    answers = []
    for number in range(2):
        answers.append(predict(learner.kept(), pictures))
        learner.learn(number, lambda: None)
        learner.keep()
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(predict(learner.kept(), pictures), answers[0])


@pytest.mark.parametrize(("steps", "momentum"), [(704, 0.995), (136, 1 - 1 / 40.8), (3, 0.0)])
def test_a_short_training_is_not_averaged_with_what_was_there_before_it(
    steps: int, momentum: float
) -> None:
    fit = Fit(learning_rate=1e-3, batch=32, epochs=8, average=0.995)
    assert _ema_momentum(fit, steps) == pytest.approx(momentum)


@pytest.mark.slow
def test_half_precision_learns_too_and_is_kept_as_float32(
    tmp_path: Path, trained: Train, everything: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU can be told to learn as a GPU does, only slower."""
    with monkeypatch.context() as patch:
        patch.setattr("train.learner.has_gpu", lambda: True)
        half = trained(everything, tmp_path / "a")
    whole = trained(everything, tmp_path / "b")
    losses = [its.loss for its in half.history]
    assert losses[-1] < losses[0] == pytest.approx(whole.history[0].loss, abs=0.1)
    assert losses[0] != whole.history[0].loss
    assert {its.dtype for its in half.model.get_weights()} == {
        its.dtype for its in whole.model.get_weights()
    }
    assert half.model.compute_dtype == "float32"


@pytest.mark.slow
def test_the_kept_model_is_plain_keras(tmp_path: Path, trained: Train, everything: Recipe) -> None:
    once = replace(everything, fit=replace(everything.fit, epochs=1))
    fitted = trained(once, tmp_path / "a")
    assert not any(isinstance(its, FusedNormalization) for its in fitted.model.layers)
    assert all(type(its).__module__.startswith("keras.") for its in fitted.model.layers)
    fitted.model.save(tmp_path / "a.keras")
    again = keras.saving.load_model(tmp_path / "a.keras", compile=False, safe_mode=True)
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1), np.uint8)
    assert np.array_equal(predict(again, pictures), predict(fitted.model, pictures))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory, trained: Train, plain: Recipe) -> Path:
    """The folder of a training that was broken off after one epoch."""
    folder = tmp_path_factory.mktemp("state") / "a"
    trained(plain, folder, stop_at(BATCHES + 1))
    return folder


@pytest.fixture(scope="module")
def learner(plain: Recipe, given_data: tuple[PatchSet, object]) -> Learner:
    return Learner(plain, 3, given_data[0])


NOT_A_STATE = r"state\.npz: not a state that can be gone on from"


@settings(max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_state_that_ends_early_is_refused(state: Path, learner: Learner, share: float) -> None:
    whole = (state / STATE).read_bytes()
    folder = state.with_name("cut")
    folder.mkdir(exist_ok=True)
    (folder / STATE).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadInput, match=NOT_A_STATE):
        learner.restore(folder)


@settings(max_examples=100)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_damaged_state_is_the_same_or_refused(
    state: Path, learner: Learner, place: float, byte: int
) -> None:
    content = bytearray((state / STATE).read_bytes())
    content[int(place * len(content))] = byte
    folder = state.with_name("damaged")
    folder.mkdir(exist_ok=True)
    (folder / STATE).write_bytes(content)
    try:
        history = learner.restore(folder)
    except BadInput:
        return
    assert history == learner.restore(state)


@pytest.mark.parametrize("change", ["filters", "kind", "dense"])
def test_the_state_of_another_network_is_refused(
    state: Path, given_data: tuple[PatchSet, object], plain: Recipe, everything: Recipe, change: str
) -> None:
    others: dict[str, Network] = {
        "filters": Convolutions(filters=(8, 8), head="average", dropout=0),
        "kind": everything.network,
        "dense": Convolutions(filters=(8, 16), head="average", dropout=0, dense=4),
    }
    other = Learner(replace(plain, network=others[change]), 3, given_data[0])
    with pytest.raises(BadInput, match=NOT_A_STATE):
        other.restore(state)


def test_arrays_that_are_no_state_are_refused(tmp_path: Path, learner: Learner) -> None:
    np.savez(tmp_path / STATE, a=np.zeros(3))
    with pytest.raises(BadInput, match=NOT_A_STATE):
        learner.restore(tmp_path)
    history = np.frombuffer(b"[]", np.uint8)
    np.savez(tmp_path / STATE, history=history)
    with pytest.raises(BadInput, match=NOT_A_STATE):
        learner.restore(tmp_path)
